// What agent.c needs of Android's C library, so that it builds for phones without an NDK. The types and constants follow
// POSIX, the Linux system call interface and the ABI of AArch64 and 32-bit ARM; where bionic differs between 32 and 64
// bits, __LP64__ decides.

#pragma once
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef long ssize_t;
typedef int pid_t, clockid_t;

// <errno.h>
int *__errno(void);
#define errno (*__errno())

// <stdio.h>
typedef struct FILE FILE;
extern FILE *stdin, *stderr;
FILE *fopen(const char *path, const char *mode);
FILE *fdopen(int fd, const char *mode);
int fclose(FILE *file);
int fflush(FILE *file);
int fputc(int c, FILE *file);
int fputs(const char *text, FILE *file);
int fprintf(FILE *file, const char *format, ...) __attribute__((format(printf, 2, 3)));
int snprintf(char *text, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
int vsnprintf(char *text, size_t size, const char *format, va_list values);
char *fgets(char *text, int size, FILE *file);
ssize_t getline(char **line, size_t *size, FILE *file);

// <stdlib.h>, <string.h>
void *malloc(size_t size);
void *calloc(size_t n, size_t size);
void *realloc(void *block, size_t size);
void free(void *block);
long long strtoll(const char *text, char **end, int base);
void *memcpy(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);
int memcmp(const void *a, const void *b, size_t size);
size_t strlen(const char *text);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t size);
char *strerror(int number);

// <unistd.h>, <sys/utsname.h>
enum { R_OK = 4, _SC_NPROCESSORS_CONF = 96 };
int access(const char *path, int mode);
int dup(int fd);
int dup2(int from, int to);
pid_t getpid(void);
long sysconf(int name);
struct utsname {
  char sysname[65], nodename[65], release[65], version[65], machine[65], domainname[65];
};
int uname(struct utsname *name);

// <time.h>, <sys/resource.h>
enum { CLOCK_MONOTONIC = 1, CLOCK_PROCESS_CPUTIME_ID = 2, CLOCK_THREAD_CPUTIME_ID = 3 };
struct timespec {
  long tv_sec, tv_nsec;
};
struct timeval {
  long tv_sec, tv_usec;
};
int clock_gettime(clockid_t clock, struct timespec *time);
enum { RUSAGE_SELF = 0, RUSAGE_THREAD = 1 };
struct rusage {
  struct timeval ru_utime, ru_stime;
  long ru_maxrss, ru_ixrss, ru_idrss, ru_isrss, ru_minflt, ru_majflt, ru_nswap, ru_inblock, ru_oublock, ru_msgsnd,
      ru_msgrcv, ru_nsignals, ru_nvcsw, ru_nivcsw;
};
int getrusage(int who, struct rusage *usage);

// <sched.h>
#ifdef __LP64__
#define CPU_SETSIZE 1024
#else
#define CPU_SETSIZE 32
#endif
#define CPU_WORD_BITS (8 * sizeof(unsigned long))
typedef struct {
  unsigned long words[CPU_SETSIZE / (8 * sizeof(unsigned long))];
} cpu_set_t;
#define CPU_ZERO(set) memset((set), 0, sizeof(cpu_set_t))
#define CPU_SET(cpu, set) ((set)->words[(size_t)(cpu) / CPU_WORD_BITS] |= 1UL << ((size_t)(cpu) % CPU_WORD_BITS))
#define CPU_ISSET(cpu, set) ((set)->words[(size_t)(cpu) / CPU_WORD_BITS] >> ((size_t)(cpu) % CPU_WORD_BITS) & 1)
#define CPU_EQUAL(a, b) (!memcmp((a), (b), sizeof(cpu_set_t)))
int sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set);
int sched_setaffinity(pid_t pid, size_t size, const cpu_set_t *set);

// <dlfcn.h>
#ifdef __LP64__
enum { RTLD_LOCAL = 0, RTLD_NOW = 2 };
#else
enum { RTLD_LOCAL = 0, RTLD_NOW = 0 };
#endif
void *dlopen(const char *path, int flags);
void *dlsym(void *library, const char *name);
char *dlerror(void);
