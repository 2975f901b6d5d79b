// Both sides of edgespec.v1 against any frames, in any order, with any news of the engine.
#include <cstddef>
#include <cstdint>

#include "unit/edge/session_driver_util.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  hob::edge::drive_sessions({data, size});
  return 0;
}
