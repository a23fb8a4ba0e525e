"""Writers of blocks and whole nets: ONNX and TFLite files, no torch needed."""
