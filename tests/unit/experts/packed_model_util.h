#pragma once
// A model whose experts stand in a pack file too: high slabs (the slot images of the stock bytes)
// and low copies with bytes of their own.
#include <fstream>
#include <set>

#include "base/aligned_buffer.h"
#include "base/hash.h"
#include "experts/expert_layout.h"
#include "experts_test_util.h"

namespace hob {

class PackedModel : public TestModel {
 public:
  // `with_high`: the high version comes from slabs as well.
  explicit PackedModel(const std::vector<LayerShape>& shapes, bool with_high = true)
      : TestModel(shapes), pack_(0) {
    const int pack = static_cast<int>(geometry.files.size());
    geometry.files.push_back(pack_.path());
    for (const ExpertLayer& layer : geometry.layers) {
      ExpertLayer low = layer;
      for (ExpertMatrix& m : low.parts) {
        m.dtype = DType::kQ4_0;
        m.bytes_per_expert = row_bytes(m.dtype, m.cols) * static_cast<uint64_t>(m.rows);
      }
      low.slab_file = pack;
      low.slabs.resize(static_cast<size_t>(layer.n_experts));
      geometry.low.push_back(low);
    }
    const std::vector<ExpertLayout> high = make_layouts(geometry, backend);
    const std::vector<ExpertLayout> low = make_layouts(geometry, backend, Precision::kLow);
    image_.resize(kIoAlign, std::byte{0x11});  // a header
    for (size_t i = 0; i < geometry.layers.size(); i++) {
      ExpertLayer& layer = geometry.layers[i];
      if (with_high) {
        for (int e = 0; e < layer.n_experts; e++)
          slabs_of_stock_.push_back(append_high(layer, high[i], e));
        layer.slab_file = pack;
        layer.slabs.assign(slabs_of_stock_.end() - layer.n_experts, slabs_of_stock_.end());
      }
      for (ExpertSlab& slab : geometry.low[i].slabs) slab = append_low(low[i]);
    }
    write_pack();
  }

  uint64_t low_bytes() const {
    return ExpertCache::smallest_budget(geometry, backend, Precision::kLow);
  }
  const ExpertSlab& slab(ExpertKey key, Precision p) const {
    return layers_of(geometry, p)[static_cast<size_t>(key.layer)]
        .slabs[static_cast<size_t>(key.expert)];
  }
  // As expect_right(), for either precision.
  void expect_version(const ExpertLease& lease, Precision precision) const {
    ASSERT_FALSE(lease.error());
    ASSERT_FALSE(lease.skipped());
    ASSERT_EQ(lease.precision(), precision);
    if (precision == Precision::kHigh) return expect_right(lease);
    const std::byte* begin = lease.weight(kGate).data;  // part 0 stands at the start of the slot
    const ExpertSlab& s = slab(lease.key(), precision);
    ASSERT_EQ(std::memcmp(begin, image_.data() + s.offset, s.n_bytes), 0);
    ASSERT_EQ(lease.weight(kDown).dtype, DType::kQ4_0);
  }
  void corrupt(ExpertKey key, Precision p, bool on = true) {
    std::vector<std::byte> image = image_;
    if (on) image[slab(key, p).offset + 7] ^= std::byte{1};
    std::ofstream(pack_.path(), std::ios::binary | std::ios::in)
        .write(reinterpret_cast<const char*>(image.data()),
               static_cast<std::streamsize>(image.size()));
  }

 private:
  ExpertSlab append(uint64_t n) {
    const ExpertSlab slab{image_.size(), n, 0};
    image_.resize(image_.size() + n);
    return slab;
  }
  ExpertSlab append_high(const ExpertLayer& layer, const ExpertLayout& layout, int e) {
    ExpertSlab slab = append(layout.n_bytes);
    for (size_t part = 0; part < 3; part++) {
      const ExpertMatrix& m = layer.parts[part];
      const std::vector<char> stock = file_bytes(
          m.offset + static_cast<uint64_t>(e) * m.bytes_per_expert, m.bytes_per_expert);
      AlignedBuffer prepared(backend.prepared_bytes(m.dtype, m.rows, m.cols));
      backend.prepare(m.dtype, m.rows, m.cols, reinterpret_cast<const std::byte*>(stock.data()),
                      prepared.data());
      std::memcpy(image_.data() + slab.offset + layout.offset[part], prepared.data(),
                  backend.prepared_bytes(m.dtype, m.rows, m.cols));
    }
    slab.hash = hash64({image_.data() + slab.offset, slab.n_bytes});
    return slab;
  }
  ExpertSlab append_low(const ExpertLayout& layout) {
    ExpertSlab slab = append(layout.n_bytes);
    for (uint64_t i = 0; i < slab.n_bytes; i++)
      image_[slab.offset + i] = file_byte(slab.offset * 3 + i);
    slab.hash = hash64({image_.data() + slab.offset, slab.n_bytes});
    return slab;
  }
  void write_pack() {
    std::ofstream(pack_.path(), std::ios::binary)
        .write(reinterpret_cast<const char*>(image_.data()),
               static_cast<std::streamsize>(image_.size()));
  }

  TempFile pack_;
  std::vector<std::byte> image_;
  std::vector<ExpertSlab> slabs_of_stock_;
};

// Hands out one demand; returns per expert what came.
struct Served {
  std::map<int, Precision> precision;
  std::map<int, std::exception_ptr> error;
  std::set<int> skipped;
};
inline Served serve(ExpertCache& cache, const std::vector<ExpertWant>& wants,
                    const PackedModel& model) {
  Served served;
  ExpertDemand demand = cache.demand(wants);
  while (true) {
    std::vector<ExpertLease> leases = demand.next();
    if (leases.empty()) return served;
    for (const ExpertLease& lease : leases) {
      const int e = lease.key().expert;
      if (lease.error())
        served.error[e] = lease.error();
      else if (lease.skipped())
        served.skipped.insert(e);
      else {
        served.precision[e] = lease.precision();
        model.expect_version(lease, lease.precision());
      }
    }
  }
}

}  // namespace hob
