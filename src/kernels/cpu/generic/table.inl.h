// The table of this ISA: every kernel instantiated once. Included by tu.cc after the generic
// bodies.
#include "kernels/cpu/generic/peak.inl.h"

#define HOB_NO_KERNELS_8 nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr

#define HOB_KERNEL_TABLE(isa_name)                                                               \
  {                                                                                              \
    .isa = isa_name, .quantise_row = quantise_row,                                               \
    .mul_panels = {/*0: F32*/ nullptr,                                                           \
                   nullptr,                                                                      \
                   mul_panels<BlockQ4_0>,                                                        \
                   mul_panels<BlockQ4_1>,                                                        \
                   nullptr,                                                                      \
                   nullptr,                                                                      \
                   mul_panels<BlockQ5_0>,                                                        \
                   mul_panels<BlockQ5_1>,                                                        \
                   /*8*/ mul_panels<BlockQ8_0>,                                                  \
                   nullptr,                                                                      \
                   mul_panels<BlockQ2_K>,                                                        \
                   mul_panels<BlockQ3_K>,                                                        \
                   mul_panels<BlockQ4_K>,                                                        \
                   mul_panels<BlockQ5_K>,                                                        \
                   mul_panels<BlockQ6_K>,                                                        \
                   nullptr,                                                                      \
                   /*16*/ nullptr,                                                               \
                   nullptr,                                                                      \
                   nullptr,                                                                      \
                   nullptr,                                                                      \
                   mul_panels<BlockIQ4_NL>,                                                      \
                   nullptr,                                                                      \
                   nullptr,                                                                      \
                   mul_panels<BlockIQ4_XS>,                                                      \
                   /*24*/ HOB_NO_KERNELS_8,                                                      \
                   /*32*/ nullptr,                                                               \
                   nullptr,                                                                      \
                   nullptr,                                                                      \
                   nullptr,                                                                      \
                   nullptr,                                                                      \
                   nullptr,                                                                      \
                   nullptr,                                                                      \
                   mul_panels<BlockMXFP4>,                                                       \
                   /*40 to 111*/ HOB_NO_KERNELS_8,                                               \
                   HOB_NO_KERNELS_8,                                                             \
                   HOB_NO_KERNELS_8,                                                             \
                   HOB_NO_KERNELS_8,                                                             \
                   HOB_NO_KERNELS_8,                                                             \
                   HOB_NO_KERNELS_8,                                                             \
                   HOB_NO_KERNELS_8,                                                             \
                   HOB_NO_KERNELS_8,                                                             \
                   HOB_NO_KERNELS_8,                                                             \
                   /*112*/ mul_panels<BlockQ2_1>,                                                \
                   mul_panels<BlockQ3_0>,                                                        \
                   mul_panels<BlockG2>,                                                          \
                   mul_panels<BlockG3>,                                                          \
                   mul_panels<BlockG4>,                                                          \
                   mul_panels<BlockG8>},                                                         \
    .mul_rows_f32 = mul_rows<LoadF32>, .mul_rows_f16 = mul_rows<LoadF16>,                        \
    .mul_rows_bf16 = mul_rows<LoadBf16>, .rms_norm = rms_norm, .layer_norm = layer_norm,         \
    .gated_unit = {gated_unit<SiluUnit>, gated_unit<GeluUnit>, gated_unit<GeluF16Unit>,          \
                   gated_unit<ClampedSiluUnit>},                                                \
    .add = add_row, .axpy = axpy, .softmax = softmax,                                            \
    .attention = {attention<KvFloats<LoadF16>>, attention<KvFloats<LoadF32>>, attention<KvQ8>},  \
    .kv_write = {kv_write_f16, kv_write_f32, kv_write_q8}, .peak_dot = peak_dot,                 \
    .peak_fma = peak_fma,                                                                        \
  }
