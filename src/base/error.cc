#include "base/error.h"

#include <cstdio>
#include <cstdlib>

namespace hob {

void check_failed(const char* file, int line, const char* expression) {
  std::fprintf(stderr, "hob: bug at %s:%d: expected %s\n", file, line, expression);
  std::abort();
}

}  // namespace hob
