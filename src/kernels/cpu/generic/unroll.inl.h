// Loops over accumulators are unrolled whole, so that the arrays live in registers.
// Not under sanitizers: each unrolled access would get its own check, and the compiler minutes.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HOB_UNROLL
#define HOB_INLINE_LAMBDA
#else
#define HOB_UNROLL _Pragma("GCC unroll 32")
#define HOB_INLINE_LAMBDA __attribute__((always_inline))
#endif
