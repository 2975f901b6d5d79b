// pthread_create() succeeds THREADS_LEFT times, then never again.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

typedef int Create(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);

int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*main)(void*), void* argument) {
  static int n_made;
  const char* left = getenv("THREADS_LEFT");
  if (__atomic_fetch_add(&n_made, 1, __ATOMIC_RELAXED) >= (left ? atoi(left) : 0)) return EAGAIN;
  Create* next = (Create*)dlsym(RTLD_NEXT, "pthread_create");
  return next(thread, attributes, main, argument);
}
