// The part of the LiteRT C API that the agent uses, opened at run time. The declarations follow the C headers of
// LiteRT 2.x (litert/c/litert_*.h). agent.c includes the C library's headers first.

#pragma once

typedef void *Object;

typedef struct {
  unsigned rank : 7, has_strides : 1;
  int32_t dims[8];
  uint32_t strides[8];
} Layout;

typedef struct {
  int element;
  Layout layout;
} TensorType;

typedef struct {
  int type;
  union {
    const char *text;
    int64_t number;
  } value;
} Any;

typedef struct {
  int tag;
  Any value;
} EnvironmentOption;

enum { FLOAT32 = 1, INT8 = 9, HOST_MEMORY = 1, CPU = 1, GPU = 2, READ = 0, WRITE = 1, TEXT = 8, RUNTIME_FOLDER = 22 };

#define FUNCTIONS(X)                                                                                        \
  X(int, CreateEnvironment, (int, const EnvironmentOption *, Object *))                                     \
  X(int, CreateModelFromFile, (Object, const char *, Object *))                                             \
  X(void, DestroyModel, (Object))                                                                           \
  X(int, GetModelSignature, (Object, size_t, Object *))                                                     \
  X(int, GetNumSignatureInputs, (Object, size_t *))                                                         \
  X(int, GetNumSignatureOutputs, (Object, size_t *))                                                        \
  X(int, GetSignatureInputTensorByIndex, (Object, size_t, Object *))                                        \
  X(int, GetSignatureOutputTensorByIndex, (Object, size_t, Object *))                                       \
  X(int, GetRankedTensorType, (Object, TensorType *))                                                       \
  X(int, CreateOptions, (Object *))                                                                         \
  X(void, DestroyOptions, (Object))                                                                         \
  X(int, SetOptionsHardwareAccelerators, (Object, int))                                                     \
  X(int, CreateOpaqueOptions, (const char *, void *, void (*)(void *), Object *))                           \
  X(int, AddOpaqueOptions, (Object, Object))                                                                \
  X(int, CreateCompiledModel, (Object, Object, Object, Object *))                                           \
  X(void, DestroyCompiledModel, (Object))                                                                   \
  X(int, CreateManagedTensorBuffer, (Object, int, const TensorType *, size_t, Object *))                    \
  X(void, DestroyTensorBuffer, (Object))                                                                    \
  X(int, LockTensorBuffer, (Object, void **, int))                                                          \
  X(int, UnlockTensorBuffer, (Object))                                                                      \
  X(int, RunCompiledModel, (Object, size_t, size_t, Object *, size_t, Object *))

// Needed for the GPU and for int8 only, so that a runtime without them still computes floats on the CPU.
#define LATER_FUNCTIONS(X)                                                                                  \
  X(int, GetNumAccelerators, (Object, size_t *))                                                            \
  X(int, GetAccelerator, (Object, size_t, Object *))                                                        \
  X(int, GetAcceleratorHardwareSupport, (Object, int *))                                                    \
  X(int, GetAcceleratorName, (Object, const char **))                                                       \
  X(int, CompiledModelIsFullyAccelerated, (Object, bool *))                                                 \
  X(int, GetCompiledModelInputBufferRequirements, (Object, size_t, size_t, Object *))                       \
  X(int, GetCompiledModelOutputBufferRequirements, (Object, size_t, size_t, Object *))                      \
  X(int, CreateManagedTensorBufferFromRequirements, (Object, const TensorType *, Object, Object *))

#define DECLARE(ret, name, args) static ret(*name) args;
FUNCTIONS(DECLARE)
LATER_FUNCTIONS(DECLARE)

static const char *open_runtime(const char *path, bool needs_later) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) return dlerror();
#define FIND(ret, name, args)                         \
  *(void **)&name = dlsym(library, "LiteRt" #name);   \
  if (!name) return "it has no function LiteRt" #name;
  FUNCTIONS(FIND)
  if (!needs_later) return NULL;
  LATER_FUNCTIONS(FIND)
  return NULL;
}
