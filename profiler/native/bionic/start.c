// The first code of an Android program, in place of the NDK's crtbegin: the kernel hands over the stack (number of
// arguments, arguments, environment, auxiliary vector), and Android's C library takes it from there.

#include <stdint.h>

typedef void (*Function)(void);

// What the library calls before and after `main`; the linker sets the ends of the arrays.
typedef struct {
  Function *before_constructors, *constructors, *destructors;
} Structors;

extern Function __preinit_array_start[], __init_array_start[], __fini_array_start[];

int main(int argc, char **argv, char **environment);
void __libc_init(void *stack, Function at_exit, int (*main)(int, char **, char **), const Structors *structors);

__attribute__((used, noreturn)) static void begin(void *stack) {
  static const Structors structors = {__preinit_array_start, __init_array_start, __fini_array_start};
  __libc_init(stack, 0, main, &structors);
  __builtin_trap();  // __libc_init ends the process
}

#ifdef __aarch64__
__asm__(".globl _start\n.type _start, %function\n_start:\n  mov x29, #0\n  mov x30, #0\n  mov x0, sp\n  b begin\n");
#else
__asm__(".globl _start\n.type _start, %function\n_start:\n  mov fp, #0\n  mov lr, #0\n  mov r0, sp\n  b begin\n");
#endif

// The loader looks here for the lowest Android version that the program was made for (API level 23: Android 6).
__attribute__((used, aligned(4), section(".note.android.ident"))) static const struct {
  uint32_t name_size, content_size, type;
  char name[8];
  uint32_t api_level;
} note = {8, 4, 1, "Android", 23};
