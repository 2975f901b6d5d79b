#pragma once
// gRPC writes to stderr by itself; what matters of it reaches us as a status.
#include <grpc/support/log.h>

namespace hob::edge {

inline void silence_grpc() {
  gpr_set_log_function([](gpr_log_func_args*) {});
}

}  // namespace hob::edge
