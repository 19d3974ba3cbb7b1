// ImageFolder: labelled images that stand in a folder for each class.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <residua/data/dataset.hpp>
#include <residua/data/files.hpp>
#include <residua/io/images/read_image.hpp>

namespace residua::inline RESIDUA_ABI {

struct ImageFolderOptions {
  /// What is done to each image, so that all get one size.
  std::function<Tensor<std::uint8_t>(Tensor<std::uint8_t> image)> transform = {};
  ReadImageOptions read = {};
};

/// The images of root/CLASS/…/NAME.png, .jpg or .jpeg, as a dataset:
///
///     const ImageClassification preset;
///     const auto crop = [preset](Tensor<std::uint8_t> image) { return preset.crop(std::move(image)); };
///     DataLoader<float, ImageFolder> loader(ImageFolder("photos", {.transform = crop}), {.batch_size = 32}, rng,
///                                           {Normalize{preset.mean, preset.std}});
///
/// Classes are the folders in root, in the order of their names; images are ordered by class, folder and name. An image
/// is read when it is asked for. Other files are passed over. As torchvision's ImageFolder.
class ImageFolder {
 public:
  struct File {
    std::filesystem::path path;
    Index label;  ///< the position of its class
  };

  /// Looks for the files, but into none. Throws Error where a folder cannot be read, for a root without folders, and
  /// for a class without images.
  explicit ImageFolder(const std::filesystem::path& root, ImageFolderOptions options = {})
      : options_(std::move(options)) {
    detail::check_folder(root);
    for (const auto& entry : entries<std::filesystem::directory_iterator>(root)) {
      std::error_code error;
      if (entry.is_directory(error)) classes_.push_back(entry.path().filename().string());
    }
    if (classes_.empty()) fail(root.string(), "expected a folder for each class, found none");
    std::sort(classes_.begin(), classes_.end());
    for (const std::string& name : classes_) add_class(root / name);
  }

  const std::vector<std::string>& classes() const { return classes_; }
  const std::vector<File>& files() const { return files_; }

  Index size() const { return static_cast<Index>(files_.size()); }

  /// Image (H, W, 3), transformed, and label number i. Throws Error when there is none, and as read_image does.
  Sample<std::uint8_t> operator[](Index i) const {
    if (i < 0 || i >= size()) fail("ImageFolder", "expected an index from 0 to ", size() - 1, ", got ", i);
    const File& file = files_[static_cast<std::size_t>(i)];
    Tensor<std::uint8_t> image = read_image(file.path, options_.read);
    if (options_.transform) image = options_.transform(std::move(image));
    return {std::move(image), file.label};
  }

 private:
  template <typename Iterator>
  static std::vector<std::filesystem::directory_entry> entries(const std::filesystem::path& folder) {
    using std::filesystem::directory_options;
    std::vector<std::filesystem::directory_entry> found;
    std::error_code error;
    Iterator at(folder, directory_options::follow_directory_symlink, error);
    for (; !error && at != Iterator(); at.increment(error)) found.push_back(*at);
    if (error) fail(folder.string(), "expected a folder that can be read, got: ", error.message());
    return found;
  }

  static bool is_image(const std::filesystem::path& path) {
    std::string extension = path.extension().string();
    for (char& letter : extension) {
      if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
    }
    return extension == ".jpg" || extension == ".jpeg" || extension == ".png";
  }

  void add_class(const std::filesystem::path& folder) {
    const auto label = static_cast<Index>(std::find(classes_.begin(), classes_.end(), folder.filename().string()) -
                                          classes_.begin());
    const auto begin = static_cast<std::ptrdiff_t>(files_.size());
    for (const auto& entry : entries<std::filesystem::recursive_directory_iterator>(folder)) {
      std::error_code error;
      if (is_image(entry.path()) && !entry.is_directory(error)) files_.push_back({entry.path(), label});
    }
    if (begin == static_cast<std::ptrdiff_t>(files_.size())) {
      fail(folder.string(), "expected images (.jpg, .jpeg, .png) of the class, found none");
    }
    const auto order = [](const File& file) {
      return std::pair(file.path.parent_path().string(), file.path.filename().string());
    };
    std::sort(files_.begin() + begin, files_.end(), [&](const File& a, const File& b) { return order(a) < order(b); });
  }

  ImageFolderOptions options_;
  std::vector<std::string> classes_;
  std::vector<File> files_;
};

}  // namespace residua::inline RESIDUA_ABI
