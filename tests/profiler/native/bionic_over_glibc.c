// A stand-in for Android's libc.so over glibc: what agent.c meets that differs between the two, and nothing else.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum { BIONIC_NPROCESSORS_CONF = 96 };

int *__errno(void) { return &errno; }

long sysconf(int name) {
  long (*glibc)(int) = (long (*)(int))dlsym(RTLD_NEXT, "sysconf");
  return glibc(name == BIONIC_NPROCESSORS_CONF ? _SC_NPROCESSORS_CONF : name);
}

#if __SIZEOF_POINTER__ == 4
// bionic's RTLD_NOW is 0 on 32-bit systems, and 2 as in glibc on the others.
void *dlopen(const char *name, int mode) {
  void *(*glibc)(const char *, int) = (void *(*)(const char *, int))dlsym(RTLD_NEXT, "dlopen");
  return glibc(name, mode ? mode : RTLD_NOW);
}
#endif

void __libc_init(long *stack, void (*at_exit)(void), int (*main)(int, char **, char **), const void *structors) {
  char **argv = (char **)(stack + 1);
  (void)at_exit;
  (void)structors;
  exit(main((int)*stack, argv, argv + *stack + 1));
}
