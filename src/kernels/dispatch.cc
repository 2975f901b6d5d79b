#include <string_view>

#include "base/cpu_info.h"
#include "base/error.h"
#include "kernels/table.h"

namespace hob {

namespace cpu::scalar {
extern const KernelTable kTable;
}
#if defined(__x86_64__)
namespace cpu::avx2 {
extern const KernelTable kTable;
}
namespace cpu::avx512 {
extern const KernelTable kTable;
}
#elif defined(__aarch64__)
namespace cpu::neon {
extern const KernelTable kTable;
}
#endif

namespace {

struct IsaRow {
  const KernelTable* table;
  bool (*supported)(const CpuFeatures&);
};

// Best first.
const IsaRow kIsas[] = {
#if defined(__x86_64__)
    {&cpu::avx512::kTable, [](const CpuFeatures& f) { return f.avx512_vnni; }},
    {&cpu::avx2::kTable, [](const CpuFeatures& f) { return f.avx2_fma_f16c; }},
#elif defined(__aarch64__)
    {&cpu::neon::kTable, [](const CpuFeatures& f) { return f.neon_dotprod; }},
#endif
    {&cpu::scalar::kTable, [](const CpuFeatures&) { return true; }},
};

}  // namespace

const KernelTable& select_kernels(const char* forced_isa) {
  const std::string_view forced = forced_isa ? forced_isa : "";
  const CpuFeatures features = cpu_features();
  std::string known;
  for (const IsaRow& row : kIsas) {
    known += std::string(known.empty() ? "" : ", ") + row.table->isa;
    if (!forced.empty() && forced != row.table->isa) continue;
    if (row.supported(features)) return *row.table;
    if (!forced.empty())
      fail(Code::kInvalidArgument, "[cpu] HOB_FORCE_ISA={}: this CPU does not have it", forced);
  }
  fail(Code::kInvalidArgument, "[cpu] HOB_FORCE_ISA={}: expected one of {}", forced, known);
}

int supported_kernels(const KernelTable* out[8]) {
  const CpuFeatures features = cpu_features();
  int n = 0;
  for (const IsaRow& row : kIsas)
    if (row.supported(features)) out[n++] = row.table;
  return n;
}

}  // namespace hob
