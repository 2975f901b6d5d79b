#include "tensor/quantise_search.h"

#include "tensor/quantise.h"

namespace hob {

void quantise_row_search(DType type, const float* src, int64_t n, const float*, std::byte* dst) {
  quantise_row(type, src, n, dst);
}
DType low_type(int bits, int) { return bits == 2 ? DType::kQ4_0 : bits == 3 ? DType::kQ4_1 : DType::kQ4_0; }

}  // namespace hob
