#include "format/model_file.h"

#include "base/error.h"

namespace hob {

ModelFile::ModelFile(Metadata metadata, std::vector<RawTensor> tensors,
                     std::vector<std::string> files, uint64_t total_bytes,
                     std::shared_ptr<const RowMaker> maker)
    : metadata_(std::move(metadata)),
      tensors_(std::move(tensors)),
      files_(std::move(files)),
      total_bytes_(total_bytes),
      maker_(std::move(maker)) {
  for (size_t i = 0; i < tensors_.size(); i++) {
    HOB_CHECK(tensors_[i].file != kMadeTensor || maker_);
    index_.emplace(tensors_[i].name, i);
  }
}

const RawTensor* ModelFile::find(std::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

}  // namespace hob
