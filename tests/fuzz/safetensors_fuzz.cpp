// Whatever bytes a safetensors file consists of: an Error, or tensors that can all be read.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include <residua/io/safetensors.hpp>

#include "memory_file.hpp"

using namespace residua;

/// Whole numbers may be out of T's range, all else must be read.
template <typename T>
void read(const SafetensorsFile& file, const TensorInfo& info) {
  try {
    if (file.read<T>(info).shape() != info.shape) std::abort();
  } catch (const Error&) {
    if (std::is_floating_point_v<T>) std::abort();
  }
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const MemoryFile bytes;
  bytes.set(data, size);
  try {
    const SafetensorsFile file(bytes.path());
    for (const TensorInfo& info : file.tensors()) {
      if (file.find(info.name) != &info) std::abort();
      read<float>(file, info);
      read<double>(file, info);
      read<std::int64_t>(file, info);
      read<std::uint8_t>(file, info);
      read<bool>(file, info);
    }
  } catch (const Error&) {
  }
  return 0;
}
