#pragma once
#include <vector>

#include "kernels/table.h"

namespace hob {

// Every table that this machine can run, best first.
inline std::vector<const KernelTable*> tables() {
  std::vector<const KernelTable*> all(8);
  all.resize(static_cast<size_t>(supported_kernels(all.data())));
  return all;
}

}  // namespace hob
