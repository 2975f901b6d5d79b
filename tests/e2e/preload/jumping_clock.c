// The wall clock jumps by two days between any two looks at it; the monotonic clock does not.
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec* t) {
  static int n_looks;
  const int failed = (int)syscall(SYS_clock_gettime, clock, t);
  if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)
    t->tv_sec += __atomic_add_fetch(&n_looks, 1, __ATOMIC_RELAXED) % 2 ? 86400 : -86400;
  return failed;
}

time_t time(time_t* out) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  if (out) *out = t.tv_sec;
  return t.tv_sec;
}

int gettimeofday(struct timeval* restrict out, void* restrict zone) {
  (void)zone;
  out->tv_sec = time(0);
  out->tv_usec = 0;
  return 0;
}
