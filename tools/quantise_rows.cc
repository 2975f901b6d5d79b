// quantise_rows TYPE N_COLS MODE < f32 rows: for tools/compare_quantisers.py.
// stdout: the packed rows. MODE: equal (all weights count alike), default, plain (no search), or
// dequantise, where stdin has packed rows and stdout gets f32.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/error.h"
#include "tensor/dequant.h"
#include "tensor/quantise.h"
#include "tensor/quantise_search.h"

namespace {

void convert(const hob::DTypeInfo& info, int64_t n_cols, const std::string& mode) {
  const size_t packed_bytes = hob::row_bytes(info.type, n_cols);
  const auto cols = static_cast<size_t>(n_cols);
  const std::vector<float> equal(cols, 1.0f);
  std::vector<float> values(cols);
  std::vector<std::byte> packed(packed_bytes);
  if (mode == "dequantise") {
    while (fread(packed.data(), packed_bytes, 1, stdin) == 1) {
      hob::dequantise_row(info.type, packed.data(), n_cols, values.data());
      fwrite(values.data(), sizeof(float), cols, stdout);
    }
    return;
  }
  while (fread(values.data(), sizeof(float), cols, stdin) == cols) {
    if (mode == "plain" || !info.quantised()) {
      hob::quantise_row(info.type, values.data(), n_cols, packed.data());
    } else {
      const float* importance = mode == "equal" ? equal.data() : nullptr;
      hob::quantise_row_search(info.type, values.data(), n_cols, importance, packed.data());
    }
    fwrite(packed.data(), packed_bytes, 1, stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const hob::DTypeInfo* info = argc == 4 ? hob::find_dtype(std::string_view(argv[1])) : nullptr;
  const int64_t n_cols = argc == 4 ? std::atoll(argv[2]) : 0;
  if (info == nullptr || n_cols < 1 || n_cols % info->block != 0) {
    fprintf(stderr, "usage: quantise_rows TYPE N_COLS equal|default|plain|dequantise\n");
    return 2;
  }
  try {
    convert(*info, n_cols, argv[3]);
  } catch (const hob::Error& error) {
    fprintf(stderr, "quantise_rows: %s\n", error.what());
    return 1;
  }
  return fflush(stdout) == 0 && ferror(stdout) == 0 ? 0 : 1;
}
