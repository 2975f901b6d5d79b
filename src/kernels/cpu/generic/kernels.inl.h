// Every kernel body, over the vector vocabulary that tu.cc has included before. Each file uses the
// ones before it.
// clang-format off
#include "kernels/cpu/generic/quant_blocks.inl.h"
#include "kernels/cpu/generic/quant_mul.inl.h"
#include "kernels/cpu/generic/float_ops.inl.h"
#include "kernels/cpu/generic/transpose.inl.h"
#include "kernels/cpu/generic/attention.inl.h"
#include "kernels/cpu/generic/table.inl.h"
// clang-format on
