#!/bin/sh
# Print the path of a Python newer than 3.11 that can make virtual environments: 3.13 if there is one, else 3.12. Print
# nothing if there is none. pyenv's commands fail for versions that are not selected, so its folder is searched too.
#
#   tools/newer_python.sh
root=$(pyenv root 2> /dev/null || echo "$HOME/.pyenv")
for python in python3.13 "$root"/versions/3.13.*/bin/python python3.12 "$root"/versions/3.12.*/bin/python; do
  if "$python" -c 'import ensurepip, venv' 2> /dev/null; then
    command -v "$python"
    exit
  fi
done
