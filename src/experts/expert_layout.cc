#include "experts/expert_layout.h"

#include <algorithm>

#include "base/align.h"
#include "base/error.h"

namespace hob {
namespace {

constexpr uint64_t kPartAlign =
    64;  // Backend::prepare's requirement: one cache line, one AVX-512 register

}  // namespace

const std::vector<ExpertLayer>& layers_of(const ExpertGeometry& geometry, Precision precision) {
  return precision == Precision::kHigh ? geometry.layers : geometry.low;
}

std::vector<ExpertLayout> make_layouts(const ExpertGeometry& geometry, const Backend& backend,
                                       Precision precision) {
  std::vector<ExpertLayout> layouts;
  for (const ExpertLayer& layer : layers_of(geometry, precision)) {
    ExpertLayout layout;
    if (layer.n_experts > 0) {
      uint64_t end = 0;
      for (size_t part = 0; part < 3; part++) {
        const ExpertMatrix& m = layer.parts[part];
        HOB_CHECK(
            !layer.slabs.empty() ||
            (m.bytes_per_expert == row_bytes(m.dtype, m.cols) * static_cast<uint64_t>(m.rows) &&
             (!m.reads.empty() ||
              (m.file >= 0 && static_cast<size_t>(m.file) < geometry.files.size()))));
        layout.offset[part] = end;
        end = round_up(end + backend.prepared_bytes(m.dtype, m.rows, m.cols), kPartAlign);
      }
      layout.n_bytes = round_up(end, kPageBytes);
    }
    layouts.push_back(layout);
  }
  return layouts;
}

ExpertSizes measure(const std::vector<ExpertLayer>& layers,
                    const std::vector<ExpertLayout>& layouts) {
  ExpertSizes sizes;
  for (size_t i = 0; i < layouts.size(); i++) {
    const int n = layers[i].n_experts;
    if (n == 0) continue;
    const uint64_t bytes = layouts[i].n_bytes;
    sizes.largest = std::max(sizes.largest, bytes);
    sizes.smallest = sizes.n_experts == 0 ? bytes : std::min(sizes.smallest, bytes);
    sizes.total += bytes * static_cast<uint64_t>(n);
    sizes.n_experts += n;
  }
  return sizes;
}

int max_resident(const std::vector<ExpertLayer>& layers, const std::vector<ExpertLayout>& layouts,
                 uint64_t budget_bytes) {
  std::vector<uint64_t> sizes;
  for (size_t i = 0; i < layouts.size(); i++)
    sizes.insert(sizes.end(), static_cast<size_t>(layers[i].n_experts), layouts[i].n_bytes);
  std::sort(sizes.begin(), sizes.end());
  int n = 0;
  for (uint64_t size : sizes) {
    if (size > budget_bytes) break;
    budget_bytes -= size;
    n++;
  }
  return n;
}

StagingNeeds staging_needs(const ExpertGeometry& geometry) {
  StagingNeeds needs;
  for (const ExpertLayer& layer : geometry.layers) {
    if (layer.n_experts == 0 || !layer.slabs.empty()) continue;
    for (const ExpertMatrix& m : layer.parts) {
      needs.read = std::max(needs.read, largest_read(m));
      if (m.is_made()) needs.made = std::max(needs.made, m.bytes_per_expert);
    }
  }
  return needs;
}

}  // namespace hob
