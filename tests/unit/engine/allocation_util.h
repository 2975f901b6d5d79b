#pragma once
#include <cstddef>

namespace hob {

// Calls of operator new in this test program so far, on all threads.
size_t n_allocations();

}  // namespace hob
