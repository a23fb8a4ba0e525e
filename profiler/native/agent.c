// The agent for devices without Python: it times .tflite models through the LiteRT C API and speaks the same JSON lines
// as profiler/agent (docs/formats.md, "Agent protocol"). One process holds many models.
//
//   ofa-agent --backend tflite|tflite-fp16|tflite-int8|litert-gpu|litert-gpu-fp16 --lib PATH/libLiteRt.so
//             [--runtime TEXT] [--graph-form integer]
//
// libLiteRt.so is opened at run time, so building needs no LiteRT: cc -O2 -o ofa-agent agent.c -ldl. For litert-gpu, the
// GPU accelerator (libLiteRt*Accelerator.so) lies beside it.

#ifdef OFA_BIONIC
#include "bionic/libc.h"
#else
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#endif

#include "litert.h"

// ---- replies -------------------------------------------------------------------------------------------------------

static FILE *replies;
static char failure_type[32], failure_text[512];

// Note what went wrong; the loop makes the reply of it.
static bool fail(const char *type, const char *format, ...) {
  va_list values;
  va_start(values, format);
  snprintf(failure_type, sizeof failure_type, "%s", type);
  vsnprintf(failure_text, sizeof failure_text, format, values);
  va_end(values);
  return false;
}

static void write_string(const char *text) {
  fputc('"', replies);
  for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
    if (*c == '"' || *c == '\\') fprintf(replies, "\\%c", *c);
    else if (*c < 0x20 || *c > 0x7e) fprintf(replies, "\\u%04x", *c);
    else fputc(*c, replies);
  }
  fputc('"', replies);
}

static void write_numbers(const char *name, const int64_t *numbers, int n) {
  fprintf(replies, ",\"%s\":[", name);
  for (int i = 0; i < n; i++) fprintf(replies, i ? ",%lld" : "%lld", (long long)numbers[i]);
  fputc(']', replies);
}

static void begin_reply(long long id) { fprintf(replies, "{\"id\":%lld,\"ok\":true", id); }

static void end_reply(void) {
  fputs("}\n", replies);
  fflush(replies);
}

// ---- requests: one flat JSON object a line -------------------------------------------------------------------------

enum { MAX_CPUS = 256 };

typedef struct {
  long long id, threads, handle, warmup, repeats;
  char op[16], model[1024];
  int n_cpus, cpus[MAX_CPUS];
} Request;

static const char *space(const char *p) {
  while (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n') p++;
  return p;
}

static const char *read_string(const char *p, char *out, size_t size) {
  size_t n = 0;
  if (*p++ != '"') return NULL;
  for (; *p && *p != '"'; p++) {
    char c = *p;
    if (c == '\\') {
      c = *++p;
      if (c != '"' && c != '\\' && c != '/') return NULL;  // the host's paths need no other escapes
    }
    if (n + 1 >= size) return NULL;
    out[n++] = c;
  }
  out[n] = 0;
  return *p == '"' ? p + 1 : NULL;
}

static const char *read_number(const char *p, long long *out) {
  char *end;
  *out = strtoll(p, &end, 10);
  return end == p ? NULL : end;
}

static const char *read_cpus(const char *p, Request *r) {
  if (*p++ != '[') return NULL;
  for (p = space(p); *p != ']'; p = space(p)) {
    long long cpu;
    if (r->n_cpus == MAX_CPUS || !(p = read_number(p, &cpu))) return NULL;
    r->cpus[r->n_cpus++] = (int)cpu;
    p = space(p);
    if (*p == ',') p = space(p + 1);
    else if (*p != ']') return NULL;
  }
  return p + 1;
}

static const char *read_value(const char *p, const char *key, Request *r) {
  long long ignored;
  if (!strncmp(p, "null", 4)) return p + 4;
  if (!strcmp(key, "op")) return read_string(p, r->op, sizeof r->op);
  if (!strcmp(key, "model")) return read_string(p, r->model, sizeof r->model);
  if (!strcmp(key, "cpus")) return read_cpus(p, r);
  if (!strcmp(key, "id")) return read_number(p, &r->id);
  if (!strcmp(key, "threads")) return read_number(p, &r->threads);
  if (!strcmp(key, "handle")) return read_number(p, &r->handle);
  if (!strcmp(key, "warmup")) return read_number(p, &r->warmup);
  if (!strcmp(key, "repeats")) return read_number(p, &r->repeats);
  return read_number(p, &ignored);
}

static bool parse(const char *p, Request *r) {
  char key[32];
  memset(r, 0, sizeof *r);
  r->threads = 1;
  p = space(p);
  if (*p++ != '{') return false;
  for (p = space(p); *p != '}'; p = space(p)) {
    if (!(p = read_string(p, key, sizeof key)) || *(p = space(p)) != ':') return false;
    if (!(p = read_value(space(p + 1), key, r))) return false;
    p = space(p);
    if (*p == ',') p++;
    else if (*p != '}') return false;
  }
  return !*space(p + 1);
}

// ---- the machine ---------------------------------------------------------------------------------------------------

static cpu_set_t home_cpus, current_cpus;

// Move this thread to the cpus (n 0: where it was at the start); workers that the runtime starts later inherit it.
static bool settle(const int *cpus, int n) {
  cpu_set_t wanted = home_cpus;
  if (n) CPU_ZERO(&wanted);
  for (int i = 0; i < n; i++) {
    if (cpus[i] < 0 || cpus[i] >= CPU_SETSIZE) return fail("ValueError", "there is no cpu %d", cpus[i]);
    CPU_SET(cpus[i], &wanted);
  }
  if (CPU_EQUAL(&wanted, &current_cpus)) return true;
  if (sched_setaffinity(0, sizeof wanted, &wanted))
    return fail("ValueError", "cannot run on the cpus asked for, cpu %d first: %s", n ? cpus[0] : 0, strerror(errno));
  current_cpus = wanted;
  return true;
}

static int64_t now_ns(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int64_t n_switches(int scope) {
  struct rusage usage;
  getrusage(scope, &usage);
  return usage.ru_nivcsw;
}

static bool reset_peak_rss(void) {
  FILE *file = fopen("/proc/self/clear_refs", "w");
  if (!file) return false;
  fputs("5", file);  // proc(5): resets VmHWM to the present resident size
  return fclose(file) == 0;
}

static long long read_peak_rss_kb(void) {
  char line[256];
  long long kb = -1;
  FILE *file = fopen("/proc/self/status", "r");
  while (file && kb < 0 && fgets(line, sizeof line, file))
    if (!strncmp(line, "VmHWM:", 6)) kb = strtoll(line + 6, NULL, 10);
  if (file) fclose(file);
  return kb;
}

// ---- models --------------------------------------------------------------------------------------------------------

enum { MAX_TENSORS = 4, UNKNOWN = -2, UNREADABLE = -1 };

typedef struct {
  Object model, compiled, inputs[MAX_TENSORS], outputs[MAX_TENSORS];
  size_t n_inputs, n_outputs, output_size[MAX_TENSORS];
  int threads, n_cpus, cpus[MAX_CPUS];
  long long peak_rss_kb;
} Loaded;

static Object environment;
static Loaded **models;  // by handle, from 1; NULL where unloaded
static long long n_models;
static const char *backend = "tflite";
static bool is_half;                   // compute in fp16, whatever the file says
static bool is_gpu;                    // compute on the GPU, and nothing on the CPU
static bool is_int8;                   // models have int8 input and output
static bool is_integer;                // refuse a model with an operator outside XNNPACK
static const char *accelerator = "";  // name of LiteRT's GPU accelerator

#define TRY(call)                                                                                   \
  do {                                                                                              \
    int status = (call);                                                                            \
    if (status) return fail("RuntimeError", "LiteRt" #call " gave status %d", status);              \
  } while (0)

static void unload(Loaded *m) {
  for (size_t i = 0; i < MAX_TENSORS; i++) {
    if (m->inputs[i]) DestroyTensorBuffer(m->inputs[i]);
    if (m->outputs[i]) DestroyTensorBuffer(m->outputs[i]);
  }
  if (m->compiled) DestroyCompiledModel(m->compiled);
  if (m->model) DestroyModel(m->model);
  free(m);
}

// Find the GPU accelerator that the environment has loaded.
static bool find_gpu(void) {
  size_t n;
  TRY(GetNumAccelerators(environment, &n));
  for (size_t i = 0; i < n; i++) {
    Object found;
    int units;
    TRY(GetAccelerator(environment, i, &found));
    TRY(GetAcceleratorHardwareSupport(found, &units));
    if (!(units & GPU)) continue;
    TRY(GetAcceleratorName(found, &accelerator));
    return true;
  }
  return fail("RuntimeError", "no GPU accelerator of LiteRT loads here");
}

// Make a buffer in the memory that the GPU computes from, or in this program's memory for the CPU.
static bool place_buffer(Loaded *m, size_t i, bool is_input, const TensorType *type, size_t bytes) {
  Object requirements, *buffer = is_input ? &m->inputs[i] : &m->outputs[i];
  if (!is_gpu) {
    TRY(CreateManagedTensorBuffer(environment, HOST_MEMORY, type, bytes, buffer));
    return true;
  }
  if (is_input) TRY(GetCompiledModelInputBufferRequirements(m->compiled, 0, i, &requirements));
  else TRY(GetCompiledModelOutputBufferRequirements(m->compiled, 0, i, &requirements));
  TRY(CreateManagedTensorBufferFromRequirements(environment, type, requirements, buffer));
  return true;
}

static bool make_buffer(Loaded *m, size_t index, bool is_input, Object tensor) {
  TensorType type;
  size_t n = 1;
  void *values;
  TRY(GetRankedTensorType(tensor, &type));
  if (type.element != (is_int8 ? INT8 : FLOAT32))
    return fail("ValueError", "a tensor is not of %s (LiteRT type %d)", is_int8 ? "int8" : "floats", type.element);
  for (unsigned i = 0; i < type.layout.rank; i++) {
    if (type.layout.dims[i] <= 0) return fail("ValueError", "export the model with fixed sizes");
    n *= (size_t)type.layout.dims[i];
  }
  if (!place_buffer(m, index, is_input, &type, n * (is_int8 ? 1 : sizeof(float)))) return false;
  if (!is_input) {
    m->output_size[index] = n;
    return true;
  }
  TRY(LockTensorBuffer(m->inputs[index], &values, WRITE));
  uint64_t state = 20200121;  // any fixed number: each load of a model sees the same input, over [-1, 1), no denormals
  for (size_t i = 0; i < n; i++) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    if (is_int8) ((int8_t *)values)[i] = (int8_t)(state >> 56);
    else ((float *)values)[i] = (float)(state >> 40) / 8388608.0f - 1.0f;
  }
  TRY(UnlockTensorBuffer(m->inputs[index]));
  return true;
}

// Compile for the CPU or for the GPU, never for both: LiteRT computes on the CPU what the GPU accelerator lacks.
static bool compile_for_unit(Loaded *m) {
  Object options, more;
  char *text = malloc(64);
  if (is_gpu) snprintf(text, 64, "precision = %d\n", is_half ? 1 : 2);  // the default is fp16 where the GPU has it
  else snprintf(text, 64, "num_threads = %d\n%s", m->threads, is_half ? "flags = 4\n" : "");  // ..._FLAG_FORCE_FP16
  TRY(CreateOptions(&options));
  TRY(SetOptionsHardwareAccelerators(options, is_gpu ? GPU : CPU));
  TRY(CreateOpaqueOptions(is_gpu ? "gpu_options" : "xnnpack", text, free, &more));
  TRY(AddOpaqueOptions(options, more));
  int refused = CreateCompiledModel(environment, m->model, options, &m->compiled);
  DestroyOptions(options);
  if (refused)
    return fail("RuntimeError", "LiteRtCreateCompiledModel gave status %d%s", refused,
                is_gpu    ? ": the GPU accelerator finds no usable GPU, or does not compute all of this model"
                : is_half ? ": no inference in half precision here, it seems"
                          : "");
  bool is_whole = true;
  if (is_gpu || is_integer) TRY(CompiledModelIsFullyAccelerated(m->compiled, &is_whole));
  if (!is_whole && is_gpu) return fail("RuntimeError", "the GPU accelerator does not compute all of this model");
  return is_whole ||
         fail("ValueError",
              "the int8 model is not wholly integer: XNNPACK does not compute all of its operators (HARD_SWISH, or any "
              "int8 operator in an old runtime); use a newer runtime, or measure with --graph-form fused");
}

static bool compile(Loaded *m, const char *path) {
  Object signature, tensor;
  TRY(CreateModelFromFile(environment, path, &m->model));
  if (!compile_for_unit(m)) return false;
  TRY(GetModelSignature(m->model, 0, &signature));
  TRY(GetNumSignatureInputs(signature, &m->n_inputs));
  TRY(GetNumSignatureOutputs(signature, &m->n_outputs));
  if (m->n_inputs > MAX_TENSORS || m->n_outputs > MAX_TENSORS)
    return fail("ValueError", "more than %d inputs or outputs", MAX_TENSORS);
  for (size_t i = 0; i < m->n_inputs; i++) {
    TRY(GetSignatureInputTensorByIndex(signature, i, &tensor));
    if (!make_buffer(m, i, true, tensor)) return false;
  }
  for (size_t i = 0; i < m->n_outputs; i++) {
    TRY(GetSignatureOutputTensorByIndex(signature, i, &tensor));
    if (!make_buffer(m, i, false, tensor)) return false;
  }
  return true;
}

// Run once. The GPU accelerator returns when the work is queued; an output can be read when it is computed.
static int infer(Loaded *m) {
  int status = RunCompiledModel(m->compiled, 0, m->n_inputs, m->inputs, m->n_outputs, m->outputs);
  for (size_t i = 0; is_gpu && !status && i < m->n_outputs; i++) {
    void *values;
    status = LockTensorBuffer(m->outputs[i], &values, READ);
    if (!status) status = UnlockTensorBuffer(m->outputs[i]);
  }
  return status;
}

// A processor without fp16 arithmetic may fall back to fp32 in silence, and a GPU may prefer fp16: what was computed in
// half precision has no more than half precision's digits.
static bool check_precision(Loaded *m) {
  uint32_t *bits, all = 0;
  TRY(infer(m));
  for (size_t i = 0; i < m->n_outputs; i++) {
    TRY(LockTensorBuffer(m->outputs[i], (void **)&bits, READ));
    for (size_t j = 0; j < m->output_size[i]; j++) all |= bits[j];
    TRY(UnlockTensorBuffer(m->outputs[i]));
  }
  bool is_single = all & 0x1fff;
  if (is_half && is_single) return fail("RuntimeError", "this is computed in fp32: no fp16 arithmetic here, it seems");
  if (!is_half && !is_single && all) return fail("RuntimeError", "the GPU computes this in fp16");
  return true;
}

static Loaded *take(long long handle) {
  Loaded *m = handle > 0 && handle <= n_models ? models[handle - 1] : NULL;
  if (!m) fail("ValueError", "no model has the handle %lld", handle);
  return m;
}

// ---- operations ----------------------------------------------------------------------------------------------------

static const char *runtime_text = "LiteRT, unknown version";

static bool do_hello(const Request *r) {
  struct utsname system;
  uname(&system);
  begin_reply(r->id);
  fprintf(replies, ",\"protocol\":1,\"backend\":\"%s\",\"versions\":{\"%s\":", backend, backend);
  write_string(runtime_text);
  fputs("},\"python\":\"none\",\"machine\":", replies);
  write_string(system.machine);
  fputs(",\"system\":", replies);
  write_string(system.sysname);
  fprintf(replies, ",\"n_cores\":%ld,\"cpus\":[", sysconf(_SC_NPROCESSORS_CONF));
  bool first = true;
  for (int i = 0; i < CPU_SETSIZE; i++)
    if (CPU_ISSET(i, &home_cpus)) {
      fprintf(replies, first ? "%d" : ",%d", i);
      first = false;
    }
  fprintf(replies,
          "],\"clocks\":{\"wall\":\"CLOCK_MONOTONIC\",\"cpu_one_thread\":\"CLOCK_THREAD_CPUTIME_ID\","
          "\"cpu_many_threads\":\"CLOCK_PROCESS_CPUTIME_ID\",\"switches_one_thread\":\"thread\","
          "\"switches_many_threads\":\"process\"},\"pid\":%d",
          (int)getpid());
  end_reply();
  return true;
}

static bool do_load(const Request *r) {
  if (r->threads < 1) return fail("ValueError", "threads must be 1 or more, not %lld", r->threads);
  if (access(r->model, R_OK)) return fail("FileNotFoundError", "%s: %s", r->model, strerror(errno));
  if (!settle(r->cpus, r->n_cpus)) return false;
  int64_t start = now_ns(CLOCK_MONOTONIC);
  Loaded *m = calloc(1, sizeof *m);
  m->threads = (int)r->threads;
  m->n_cpus = r->n_cpus;
  memcpy(m->cpus, r->cpus, sizeof m->cpus);
  m->peak_rss_kb = UNKNOWN;
  if (!compile(m, r->model) || ((is_half || is_gpu) && !check_precision(m))) {
    unload(m);
    return false;
  }
  models = realloc(models, (size_t)(n_models + 1) * sizeof *models);
  models[n_models++] = m;
  begin_reply(r->id);
  fprintf(replies, ",\"handle\":%lld,\"load_ns\":%lld,\"settings\":{\"runtime\":", n_models,
          (long long)(now_ns(CLOCK_MONOTONIC) - start));
  write_string(runtime_text);
  if (is_gpu) {
    fputs(",\"fully_accelerated\":true,\"accelerator\":", replies);
    write_string(accelerator);
  } else {
    fprintf(replies, ",\"num_threads\":%d,\"xnnpack\":true", m->threads);
  }
  fprintf(replies, ",\"dtype\":\"%s\"}", is_half ? "float16" : is_int8 ? "int8" : "float32");
  end_reply();
  return true;
}

static bool do_run(const Request *r) {
  if (r->warmup < 0 || r->repeats < 1 || r->repeats > 1000000)
    return fail("ValueError", "warmup >= 0 and repeats >= 1 are needed, not %lld and %lld", r->warmup, r->repeats);
  Loaded *m = take(r->handle);
  if (!m || !settle(m->cpus, m->n_cpus)) return false;
  clockid_t cpu_clock = m->threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_PROCESS_CPUTIME_ID;
  int scope = m->threads == 1 ? RUSAGE_THREAD : RUSAGE_SELF;
  int n = (int)r->repeats, status = 0;
  int64_t *wall = calloc(3 * (size_t)n, sizeof *wall), *cpu = wall + n, *switches = cpu + n, sum = 0;
  bool is_watched = m->peak_rss_kb == UNKNOWN && reset_peak_rss();
  for (long long i = 0; i < r->warmup && !status; i++) status = infer(m);
  for (int i = 0; i < n && !status; i++) {
    int64_t s0 = n_switches(scope), c0 = now_ns(cpu_clock), w0 = now_ns(CLOCK_MONOTONIC);
    status = infer(m);
    int64_t w1 = now_ns(CLOCK_MONOTONIC), c1 = now_ns(cpu_clock);
    switches[i] = n_switches(scope) - s0;
    wall[i] = w1 - w0;
    cpu[i] = is_gpu ? 0 : c1 - c0;  // on the GPU this thread only waits
  }
  if (status) {
    free(wall);
    return fail("RuntimeError", "LiteRtRunCompiledModel gave status %d", status);
  }
  if (m->peak_rss_kb == UNKNOWN) m->peak_rss_kb = is_watched ? read_peak_rss_kb() : UNREADABLE;
  for (int i = 0; i < n; i++) sum += switches[i];
  begin_reply(r->id);
  write_numbers("wall_ns", wall, n);
  write_numbers("cpu_ns", cpu, n);
  write_numbers("switches", switches, n);
  fprintf(replies, ",\"n_involuntary_switches\":%lld,\"peak_rss_kb\":", (long long)sum);
  fprintf(replies, m->peak_rss_kb < 0 ? "null" : "%lld", m->peak_rss_kb);
  end_reply();
  free(wall);
  return true;
}

static bool do_unload(const Request *r) {
  Loaded *m = take(r->handle);
  if (!m) return false;
  unload(m);
  models[r->handle - 1] = NULL;
  begin_reply(r->id);
  end_reply();
  return true;
}

// Writes the numbers of a model's first output to FILE, for the tests: `--check MODEL`.
static bool check(const char *path, FILE *out) {
  Loaded *m = calloc(1, sizeof *m);
  TensorType type;
  Object signature, tensor;
  void *values;
  size_t n = 1;
  m->threads = 1;
  if (!compile(m, path)) return false;
  TRY(infer(m));
  TRY(GetModelSignature(m->model, 0, &signature));
  for (int side = 0; side < 2; side++) {  // the input, then the output
    Object buffer = side ? m->outputs[0] : m->inputs[0];
    if (side) TRY(GetSignatureOutputTensorByIndex(signature, 0, &tensor));
    else TRY(GetSignatureInputTensorByIndex(signature, 0, &tensor));
    TRY(GetRankedTensorType(tensor, &type));
    n = 1;
    for (unsigned i = 0; i < type.layout.rank; i++) n *= (size_t)type.layout.dims[i];
    TRY(LockTensorBuffer(buffer, &values, READ));
    for (size_t i = 0; i < n; i++)
      fprintf(out, i ? " %.9g" : "%.9g", is_int8 ? (double)((int8_t *)values)[i] : (double)((float *)values)[i]);
    fputc('\n', out);
    TRY(UnlockTensorBuffer(buffer));
  }
  unload(m);
  return true;
}

static bool answer(const Request *r) {
  if (!strcmp(r->op, "hello")) return do_hello(r);
  if (!strcmp(r->op, "load")) return do_load(r);
  if (!strcmp(r->op, "run")) return do_run(r);
  if (!strcmp(r->op, "unload")) return do_unload(r);
  if (!strcmp(r->op, "quit")) {
    begin_reply(r->id);
    end_reply();
    return true;
  }
  return fail("ValueError", "unknown op '%s', known are hello, load, run, unload, quit", r->op);
}

static void serve(void) {
  char *line = NULL;
  size_t size = 0;
  Request r;
  while (getline(&line, &size, stdin) > 0) {
    bool parsed = parse(line, &r);
    bool ok = parsed ? answer(&r) : fail("ValueError", "not a request: %.100s", line);
    if (!ok) {
      if (parsed) fprintf(replies, "{\"id\":%lld", r.id);
      else fputs("{\"id\":null", replies);
      fputs(",\"ok\":false,\"error\":{\"type\":", replies);
      write_string(failure_type);
      fputs(",\"message\":", replies);
      write_string(failure_text);
      fputc('}', replies);
      end_reply();
    }
    if (parsed && !strcmp(r.op, "quit")) break;
  }
  free(line);
}

static bool choose_backend(void) {
  static const char *const names[] = {"tflite", "tflite-fp16", "litert-gpu", "litert-gpu-fp16"};
  is_int8 = !strcmp(backend, "tflite-int8");
  if (is_int8) return true;
  for (int i = 0; i < 4; i++)
    if (!strcmp(backend, names[i])) {
      is_half = i & 1;
      is_gpu = i & 2;
      return true;
    }
  return false;
}

// Create the environment; for the GPU, from the accelerator in the folder of the library.
static bool make_environment(const char *library) {
  static char folder[1024], versions[256];
  size_t n = strlen(library);
  while (n && library[n - 1] != '/') n--;
  snprintf(folder, sizeof folder, "%.*s", n ? (int)n : 1, n ? library : ".");
  EnvironmentOption option = {RUNTIME_FOLDER, {TEXT, {folder}}};
  if (CreateEnvironment(is_gpu, &option, &environment)) return fail("RuntimeError", "it makes no environment");
  if (!is_gpu) return true;
  if (!find_gpu()) return false;
  snprintf(versions, sizeof versions, "%s, %s", runtime_text, accelerator);
  runtime_text = versions;
  return true;
}

int main(int argc, char **argv) {
  const char *library = "./libLiteRt.so", *to_check = NULL;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (!strcmp(argv[i], "--lib")) library = argv[i + 1];
    else if (!strcmp(argv[i], "--runtime")) runtime_text = argv[i + 1];
    else if (!strcmp(argv[i], "--check")) to_check = argv[i + 1];
    else if (!strcmp(argv[i], "--backend")) backend = argv[i + 1];
    else if (!strcmp(argv[i], "--graph-form")) is_integer = !strcmp(argv[i + 1], "integer");
    else {
      fprintf(stderr, "unknown option %s %s; known are --backend, --lib, --runtime, --graph-form, --check\n", argv[i],
              argv[i + 1]);
      return 2;
    }
  }
  if (!choose_backend()) {
    fprintf(stderr, "unknown backend %s; known are tflite, tflite-fp16, tflite-int8, litert-gpu, litert-gpu-fp16\n",
            backend);
    return 2;
  }
  // Keep the real stdout for replies, and send all else that prints there to stderr.
  replies = fdopen(dup(1), "w");
  dup2(2, 1);
  sched_getaffinity(0, sizeof home_cpus, &home_cpus);
  current_cpus = home_cpus;
  const char *why = open_runtime(library, is_gpu || is_integer);
  if (why) {
    const char *reason = strncmp(why, library, strlen(library)) ? why : why + strlen(library) + 2;  // the path comes last
    fprintf(stderr, "cannot use the runtime (%s): %s\n", reason, library);
    return 3;
  }
  if (!make_environment(library)) {
    fprintf(stderr, "cannot use the runtime (%s): %s\n", failure_text, library);
    return 3;
  }
  if (to_check) {
    if (check(to_check, replies)) return fflush(replies);
    fprintf(stderr, "%s: %s\n", failure_type, failure_text);
    return 4;
  }
  serve();
  return 0;
}
