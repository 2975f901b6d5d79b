// The only compiled file of this ISA (flags: src/kernels/isa_flags.cmake). Everything lives in an
// anonymous namespace except the table, so no symbol compiled with this ISA's flags can serve
// another.
#include <math.h>
#include <string.h>

#include <utility>

#include "kernels/table.h"

#include <immintrin.h>
namespace hob::cpu::avx2 {
namespace {
// clang-format off: each file uses the ones before it
#include "kernels/cpu/generic/unroll.inl.h"
#include "kernels/cpu/generic/sse_bytes.inl.h"
#include "kernels/cpu/avx2/simd.h"
#include "kernels/cpu/generic/kernels.inl.h"
// clang-format on
}  // namespace

extern const KernelTable kTable;
const KernelTable kTable = HOB_KERNEL_TABLE("avx2");

}  // namespace hob::cpu::avx2
