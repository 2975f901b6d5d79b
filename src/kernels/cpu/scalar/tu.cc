// The only compiled file of this ISA (flags: src/kernels/isa_flags.cmake). Everything lives in an
// anonymous namespace except the table, so no symbol compiled with this ISA's flags can serve
// another.
#include <math.h>
#include <string.h>

#include <utility>

#include "kernels/table.h"

namespace hob::cpu::scalar {
namespace {
// clang-format off: each file uses the ones before it
#include "kernels/cpu/scalar/simd.h"
#include "kernels/cpu/generic/wide_partials.inl.h"
#include "kernels/cpu/generic/kernels.inl.h"
// clang-format on
}  // namespace

extern const KernelTable kTable;
const KernelTable kTable = HOB_KERNEL_TABLE("scalar");

}  // namespace hob::cpu::scalar
