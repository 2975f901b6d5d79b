#pragma once
// A model that is only expert bytes: a file whose byte at position x is a known function of x, and
// a backend whose "permutation" is a known function of the bytes.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "experts/expert_cache.h"

namespace hob {

class FakeBackend : public Backend {
 public:
  std::string_view isa() const override { return "fake"; }
  int n_threads() const override { return 1; }
  // Rows are padded, as kernels do.
  size_t prepared_bytes(DType dtype, int rows, int cols) const override {
    return row_bytes(dtype, cols) * static_cast<size_t>((rows + 23) / 24 * 24);
  }
  void prepare(DType dtype, int rows, int cols, const std::byte* stock,
               std::byte* dst) const override {
    HOB_CHECK(reinterpret_cast<uintptr_t>(dst) % 64 == 0);
    const size_t n = row_bytes(dtype, cols) * static_cast<size_t>(rows);
    for (size_t i = 0; i < n; i++) dst[i] = stock[i] ^ std::byte{0x5a};
    std::memset(dst + n, 0, prepared_bytes(dtype, rows, cols) - n);
  }
  void embed(const Weight&, std::span<const int32_t>, Mat) override { unused(); }
  void linear(Mat, std::span<const LinearOut>) override { unused(); }
  void expert_ffn(Mat, std::span<const ExpertGroup>, GatedUnit, Mat) override { unused(); }
  void linear_heads(Mat, int, const HeadWeights&, int, Mat, int) override { unused(); }
  void rms_norm(Mat, const float*, float, Mat) override { unused(); }
  void rms_norm_heads(Mat, int, const float*, float) override { unused(); }
  void rope(Mat, int, int, std::span<const int32_t>, const RopeTable&) override { unused(); }
  void kv_write(const KvLayer&, std::span<const int32_t>, Mat, Mat) override { unused(); }
  void attention(const KvLayer&, Mat, const AttnParams&, std::span<const AttnRow>, Mat) override {
    unused();
  }
  void norm_input(Mat, const Norm&, Mat) override { unused(); }
  void add(Mat, Mat) override { unused(); }
  void add_scaled(Mat, float, Mat) override { unused(); }
  void scale(float, Mat) override { unused(); }
  void route(Mat, const RouteRule&, int32_t*, float*) override { unused(); }
  void combine(Mat, const float*, int, Mat) override { unused(); }
  void add_gated(Mat, Mat, Mat) override { unused(); }
  size_t scratch_bytes(int, int) const override { return 0; }
  size_t expert_scratch_bytes(int, int, DType) const override { return 0; }
  size_t order_scratch_bytes(int, int) const override { return 0; }

 private:
  static void unused() { HOB_CHECK(!"experts/ calls no operation"); }
};

inline std::byte file_byte(uint64_t position) {
  uint64_t x = (position + 1) * 0x9e3779b97f4a7c15u;
  return static_cast<std::byte>((x ^ (x >> 29)) >> 32);
}

inline std::vector<char> file_bytes(uint64_t offset, uint64_t n) {
  std::vector<char> bytes(n);
  for (uint64_t i = 0; i < n; i++) bytes[i] = static_cast<char>(file_byte(offset + i));
  return bytes;
}

class TempFile {
 public:
  explicit TempFile(uint64_t n_bytes, const std::string& directory = testing::TempDir()) {
    std::string path = directory + "/hob_experts_XXXXXX";
    const int fd = mkstemp(path.data());
    HOB_CHECK(fd >= 0);
    close(fd);
    path_ = path;
    write(n_bytes);
  }
  TempFile(const TempFile&) = delete;
  TempFile& operator=(const TempFile&) = delete;
  ~TempFile() { unlink(path_.c_str()); }

  const std::string& path() const { return path_; }
  void write(uint64_t n_bytes) {
    const std::vector<char> bytes = file_bytes(0, n_bytes);
    std::ofstream(path_, std::ios::binary)
        .write(bytes.data(), static_cast<std::streamsize>(n_bytes));
  }
  void truncate(uint64_t n_bytes) { std::filesystem::resize_file(path_, n_bytes); }

 private:
  std::string path_;
};

struct LayerShape {
  int n_experts;
  DType dtype;
  int d_ff, d_model;
};

// Tensors follow each other at 32-byte alignment, as in a GGUF file, starting at an odd multiple
// of 32.
class TestModel {
 public:
  explicit TestModel(const std::vector<LayerShape>& shapes,
                     const std::string& directory = testing::TempDir()) {
    uint64_t end = 96;
    for (const LayerShape& s : shapes) {
      ExpertLayer layer;
      layer.n_experts = s.n_experts;
      for (size_t part = 0; part < 3 && s.n_experts > 0; part++) {
        ExpertMatrix& m = layer.parts[part];
        m.dtype = s.dtype;
        m.rows = part == kDown ? s.d_model : s.d_ff;
        m.cols = part == kDown ? s.d_ff : s.d_model;
        m.bytes_per_expert = row_bytes(m.dtype, m.cols) * static_cast<uint64_t>(m.rows);
        m.offset = end;
        end += m.bytes_per_expert * static_cast<uint64_t>(s.n_experts);
        end = (end + 31) / 32 * 32;
      }
      geometry.layers.push_back(layer);
    }
    n_bytes = end;
    file = std::make_unique<TempFile>(n_bytes, directory);
    geometry.files = {file->path()};
  }

  uint64_t expert_bytes() const { return ExpertCache::smallest_budget(geometry, backend); }
  uint64_t total_bytes() const { return ExpertCache::total_bytes(geometry, backend); }
  ExpertCacheOptions options(uint64_t budget, const std::string& policy = "lru") const {
    ExpertCacheOptions o;
    o.budget_bytes = budget;
    o.policy = policy;
    return o;
  }
  std::vector<ExpertKey> keys(int layer) const {
    std::vector<ExpertKey> all;
    for (int e = 0; e < geometry.layers[static_cast<size_t>(layer)].n_experts; e++)
      all.push_back({layer, e});
    return all;
  }

  // The lease holds the bytes of its expert, all of them, in kernel layout.
  void expect_right(const ExpertLease& lease) const {
    ASSERT_FALSE(lease.error());
    const ExpertLayer& layer = geometry.layers[static_cast<size_t>(lease.key().layer)];
    for (size_t part = 0; part < 3; part++) {
      const ExpertMatrix& m = layer.parts[part];
      const Weight& w = lease.weight(static_cast<ExpertPart>(part));
      ASSERT_EQ(w.dtype, m.dtype);
      ASSERT_EQ(w.n_rows, m.rows);
      ASSERT_EQ(w.n_cols, m.cols);
      const std::vector<char> stock =
          file_bytes(m.offset + static_cast<uint64_t>(lease.key().expert) * m.bytes_per_expert,
                     m.bytes_per_expert);
      std::vector<std::byte> buffer(backend.prepared_bytes(m.dtype, m.rows, m.cols) + 64);
      std::byte* expected = buffer.data() + (64 - reinterpret_cast<uintptr_t>(buffer.data()) % 64);
      backend.prepare(m.dtype, m.rows, m.cols, reinterpret_cast<const std::byte*>(stock.data()),
                      expected);
      ASSERT_EQ(std::memcmp(w.data, expected, backend.prepared_bytes(m.dtype, m.rows, m.cols)), 0)
          << "layer " << lease.key().layer << " expert " << lease.key().expert << " part " << part;
    }
  }

  FakeBackend backend;
  ExpertGeometry geometry;
  uint64_t n_bytes = 0;
  std::unique_ptr<TempFile> file;
};

// What the tests want to happen between the loader and the disk. Set before, or while no read is in
// flight.
struct ReaderScript {
  // Called on the loader's thread for every read; a non-null error replaces the read.
  std::function<std::exception_ptr(const ReadOp&)> fail;
  // While true, completions are held back.
  std::atomic<bool> hold{false};
  std::function<void()> wake;  // set by the reader
  void release() {
    hold = false;
    wake();
  }
  std::atomic<int> n_reads{0};
};

class ScriptedReader : public AsyncReader {
 public:
  ScriptedReader(std::unique_ptr<AsyncReader> inner, std::shared_ptr<ReaderScript> script)
      : inner_(std::move(inner)), script_(std::move(script)) {
    script_->wake = [this] { inner_->wake(); };
  }
  std::string_view name() const override { return inner_->name(); }
  bool direct(int file) const override { return inner_->direct(file); }
  void submit(std::span<const ReadOp> ops) override {
    for (const ReadOp& op : ops) {
      script_->n_reads++;
      std::exception_ptr error = script_->fail ? script_->fail(op) : nullptr;
      if (error)
        failed_.push_back({op.tag, error});
      else
        inner_->submit({&op, 1});
    }
    if (!failed_.empty()) inner_->wake();
  }
  std::vector<ReadDone> wait() override {
    std::vector<ReadDone> done = inner_->wait();
    held_.insert(held_.end(), done.begin(), done.end());
    held_.insert(held_.end(), failed_.begin(), failed_.end());
    failed_.clear();
    done.clear();
    if (!script_->hold) done.swap(held_);
    return done;
  }
  void wake() override { inner_->wake(); }

 private:
  std::unique_ptr<AsyncReader> inner_;
  std::shared_ptr<ReaderScript> script_;
  std::vector<ReadDone> failed_, held_;
};

inline void script(ExpertCacheOptions& options, std::shared_ptr<ReaderScript> what) {
  options.wrap_reader = [what](std::unique_ptr<AsyncReader> inner) {
    return std::make_unique<ScriptedReader>(std::move(inner), what);
  };
}

// Takes everything, checks it, drops the leases after each next(). Returns the keys in order of
// arrival.
inline std::vector<ExpertKey> take_all(ExpertDemand& demand, const TestModel& model) {
  std::vector<ExpertKey> order;
  while (true) {
    std::vector<ExpertLease> leases = demand.next();
    if (leases.empty()) return order;
    for (const ExpertLease& lease : leases) {
      model.expect_right(lease);
      order.push_back(lease.key());
    }
  }
}

inline std::exception_ptr eio() {
  return std::make_exception_ptr(
      Error(Code::kIo, "[read] test: expected bytes, the system says: Input/output error"));
}

inline Code code_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const Error& e) {
    return e.code();
  }
}

inline std::string text_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& e) {
    return e.what();
  }
}

}  // namespace hob
