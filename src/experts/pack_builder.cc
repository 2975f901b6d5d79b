#include "experts/pack_builder.h"

#include <algorithm>
#include <array>
#include <future>
#include <vector>

#include "base/error.h"
#include "base/hash.h"

namespace hob {
namespace {

uint64_t largest_slab(const PackIndex& index, PackPrecision precision) {
  uint64_t n = 0;
  for (const PackLayer& layer : index.layers)
    for (const PackSlab& slab : layer.copies[precision].slabs) n = std::max(n, slab.n_bytes);
  return n;
}

// An expert's slabs, on their way to the disk. The future is destroyed first, and waits.
struct Images {
  std::array<AlignedBuffer, 2> bytes;  // by PackPrecision
  std::future<void> written;

  void finish() {
    if (written.valid()) written.get();
  }
};

std::array<Images, 2> make_images(const PackIndex& index) {
  std::array<Images, 2> images;
  for (Images& i : images)
    for (const PackPrecision p : kPackPrecisions)
      if (const uint64_t n = largest_slab(index, p)) i.bytes[p] = AlignedBuffer(n);
  return images;
}

struct Job {
  ExpertKey key;
  std::array<bool, 2> wanted{};  // by PackPrecision
};

std::vector<Job> missing_jobs(const PackWriter& writer) {
  std::vector<Job> jobs;
  const PackIndex& index = writer.index();
  for (size_t i = 0; i < index.layers.size(); i++)
    for (int e = 0; e < index.layers[i].n_experts; e++) {
      Job job{.key = {static_cast<int>(i), e}};
      for (const PackPrecision p : kPackPrecisions)
        job.wanted[p] =
            !index.layers[i].copies[p].slabs.empty() && !writer.done({static_cast<int>(i), p, e});
      if (job.wanted[kPackHigh] || job.wanted[kPackLow]) jobs.push_back(job);
    }
  return jobs;
}

void write_images(PackWriter& writer, const Job& job, const Images& images) {
  for (const PackPrecision p : kPackPrecisions) {
    if (!job.wanted[p]) continue;
    const PackSlabId id{job.key.layer, p, job.key.expert};
    writer.write(id, {images.bytes[p].data(), slab_of(writer.index(), id).n_bytes});
  }
}

// One slab of a finished pack at a time.
class SlabReader {
 public:
  explicit SlabReader(const PackFile& pack)
      : pack_(pack),
        buffer_(
            std::max(largest_slab(pack.index(), kPackHigh), largest_slab(pack.index(), kPackLow))),
        reader_(make_async_reader({pack.path()}, {.depth = 1})) {}

  std::span<const std::byte> read(const PackSlabId& id) {
    const PackSlab& slab = slab_of(pack_.index(), id);
    const ReadOp op{.offset = slab.offset,
                    .n_bytes = slab.n_bytes,
                    .n_required = slab.n_bytes,
                    .dst = buffer_.data()};
    reader_->submit({&op, 1});
    std::vector<ReadDone> done;
    while (done.empty()) done = reader_->wait();
    if (done[0].error) std::rethrow_exception(done[0].error);
    return {buffer_.data(), slab.n_bytes};
  }

 private:
  const PackFile& pack_;
  AlignedBuffer buffer_;
  std::unique_ptr<AsyncReader> reader_;
};

// What is wrong with the slab; empty = nothing. `image`: what it must be, or null for a low copy.
std::string check_slab(const PackFile& pack, const PackSlabId& id, SlabReader& reader,
                       const std::byte* image) {
  std::span<const std::byte> bytes;
  try {
    bytes = reader.read(id);
  } catch (const Error& e) {
    return fmt::format("{}: {}", slab_name(id), e.what());
  }
  const PackSlab& slab = slab_of(pack.index(), id);
  if (const uint64_t hash = hash64(bytes); hash != slab.hash)
    return fmt::format("{}: expected hash {:016x}, its bytes have {:016x}", slab_name(id),
                       slab.hash, hash);
  if (image && !std::equal(bytes.begin(), bytes.end(), image))
    return fmt::format("{}: expected the model's weights, it has others", slab_name(id));
  return {};
}

}  // namespace

void build_pack(PackWriter& writer, const PackBuild& build, const PackProgress& progress) {
  const std::vector<Job> jobs = missing_jobs(writer);
  const uint64_t total = writer.index().slab_bytes(kPackHigh) + writer.index().slab_bytes(kPackLow);
  if (jobs.empty()) return;
  SlabMaker maker(build.high, build.low, build.backend, build.pool);
  ExpertReader reader(build.high);
  std::array<Images, 2> images = make_images(writer.index());
  reader.start(jobs[0].key);
  for (size_t i = 0; i < jobs.size(); i++) {
    if (i + 1 < jobs.size()) reader.start(jobs[i + 1].key);
    const StockExpert stock = reader.next();
    const Job& job = jobs[i];
    Images& out = images[i % images.size()];
    out.finish();
    if (job.wanted[kPackHigh]) maker.make_high(job.key.layer, stock, out.bytes[kPackHigh].data());
    if (job.wanted[kPackLow])
      maker.make_low(job.key.layer, stock,
                     build.importance ? build.importance(job.key) : ExpertImportance{},
                     out.bytes[kPackLow].data());
    out.written =
        std::async(std::launch::async, [&writer, &job, &out] { write_images(writer, job, out); });
    if (progress) progress(writer.done_bytes(), total);
  }
  for (Images& i : images) i.finish();
  if (progress) progress(total, total);
}

PackDamage verify_pack(const PackFile& pack, const PackBuild& build, const PackProgress& progress) {
  const PackIndex& index = pack.index();
  const uint64_t total = index.slab_bytes(kPackHigh) + index.slab_bytes(kPackLow);
  SlabMaker maker(build.high, nullptr, build.backend, build.pool);
  ExpertReader model(build.high);
  SlabReader slabs(pack);
  AlignedBuffer image(std::max<uint64_t>(largest_slab(index, kPackHigh), kPackAlign));
  PackDamage damage;
  uint64_t done = 0;
  for (const PackSlabId& id : slab_order(index)) {
    const bool high = id.precision == kPackHigh;
    if (high) {
      model.start({id.layer, id.expert});
      maker.make_high(id.layer, model.next(), image.data());
    }
    const std::string problem = check_slab(pack, id, slabs, high ? image.data() : nullptr);
    damage.n_slabs++;
    if (!problem.empty() && damage.n_bad++ == 0) damage.first = problem;
    done += slab_of(index, id).n_bytes;
    if (progress) progress(done, total);
  }
  return damage;
}

}  // namespace hob
