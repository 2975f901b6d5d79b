#pragma once
// The slow obvious backend: dequantise a row, multiply in double, one thread. What the decoder is
// tested with, and an independent reading of Backend's contract.
#include <memory>

#include "backend/backend.h"

namespace hob {

std::unique_ptr<Backend> make_naive_backend();

}  // namespace hob
