// safetensors files: written and read by us and by others, and refused where they break a rule.
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <residua/io/safetensors.hpp>

#include "errors.hpp"
#include "io/folder.hpp"
#include "tensors.hpp"

namespace {

using namespace residua;
namespace fs = std::filesystem;

template <typename T>
std::string bytes_of(const T& value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof value);
}
std::string with_length(const std::string& header) { return bytes_of(std::uint64_t{header.size()}) + header; }

class Safetensors : public InFolder {
 protected:
  /// What opening a file of these bytes says, without its name.
  std::string opening(const std::string& bytes) const {
    put(file_, bytes);
    const std::string text = message([&] { SafetensorsFile file(file_); });
    return text.starts_with(file_ + ": ") ? text.substr(file_.size() + 2) : text;
  }
  /// What Python says to a command, or nothing where there is none.
  std::string python(const std::string& command) const {
    const fs::path script = fs::path(__FILE__).parent_path() / "read_safetensors.py";
    const std::string line = "/usr/bin/python3 " + script.string() + " " + command + " " + file_;
    std::string said;
    FILE* pipe = popen(line.c_str(), "r");
    for (int c; (c = std::fgetc(pipe)) != EOF;) said += static_cast<char>(c);
    EXPECT_EQ(pclose(pipe), 0) << line;
    return said;
  }
  void write(const std::vector<TensorToWrite>& tensors, const std::map<std::string, std::string>& metadata = {}) const {
    write_safetensors(file_, tensors, metadata);
  }

  const std::string file_ = path("a.safetensors");
};

template <typename T>
Tensor<T> read(const SafetensorsFile& file, const std::string& name) {
  const TensorInfo* info = file.find(name);
  return info == nullptr ? Tensor<T>() : file.read<T>(*info);
}

/// A tensor of a dtype no Tensor has.
TensorToWrite raw(std::string name, Dtype dtype, const Shape& shape, std::string bytes) {
  return {std::move(name), dtype, shape, [bytes = std::move(bytes)](const ByteSink& sink) {
            sink(std::as_bytes(std::span(bytes)));
          }};
}

// --- numbers ---------------------------------------------------------------------------------------------------------

TEST(Dtypes, HaveNamesAndSizesAndTensorsOfTheirOwn) {
  static_assert(dtype_of<double>() == Dtype::F64 && dtype_of<float>() == Dtype::F32 && dtype_of<bool>() == Dtype::BOOL);
  static_assert(dtype_of<std::int64_t>() == Dtype::I64 && dtype_of<std::int32_t>() == Dtype::I32);
  static_assert(dtype_of<std::int16_t>() == Dtype::I16 && dtype_of<std::int8_t>() == Dtype::I8);
  static_assert(dtype_of<std::uint64_t>() == Dtype::U64 && dtype_of<std::uint32_t>() == Dtype::U32);
  static_assert(dtype_of<std::uint16_t>() == Dtype::U16 && dtype_of<std::uint8_t>() == Dtype::U8);
  static_assert(dtype_of<long long>() == Dtype::I64 && size_of(Dtype::BF16) == 2 && size_of(Dtype::U64) == 8);
  for (int i = 0; i < 13; ++i) EXPECT_EQ(dtype_named(name_of(static_cast<Dtype>(i))), static_cast<Dtype>(i));
  EXPECT_EQ(dtype_named("BOOL"), Dtype::BOOL);
  EXPECT_EQ(dtype_named("f32"), std::nullopt);
}

TEST(Dtypes, HalvesAreFloats) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const std::vector<std::pair<unsigned, float>> halves{
      {0x0000, 0.f},       {0x3C00, 1.f},       {0xC000, -2.f},          {0x7BFF, 65504.f},
      {0x0400, 0x1p-14f},  {0x0001, 0x1p-24f},  {0x03FF, 0x1.ff8p-15f},  {0x8001, -0x1p-24f},
      {0x7C00, infinity},  {0xFC00, -infinity}, {0x3555, 0.333251953125f}};
  for (const auto& [bits, value] : halves) EXPECT_EQ(float_from_f16(static_cast<std::uint16_t>(bits)), value) << bits;
  EXPECT_TRUE(std::signbit(float_from_f16(0x8000)));
  EXPECT_TRUE(std::isnan(float_from_f16(0x7E00)));
  EXPECT_TRUE(std::isnan(float_from_f16(0xFC01)));
  // All finite ones against their definition.
  for (unsigned bits = 0; bits < 0x10000; ++bits) {
    const int exponent = (bits >> 10) & 0x1F, fraction = bits & 0x3FF;
    if (exponent == 0x1F) continue;
    const double size = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    ASSERT_EQ(float_from_f16(static_cast<std::uint16_t>(bits)), bits & 0x8000 ? -size : size) << bits;
  }

  EXPECT_EQ(float_from_bf16(0x3F80), 1.f);
  EXPECT_EQ(float_from_bf16(0xC2F7), -123.5f);
  EXPECT_EQ(float_from_bf16(0x0001), 0x1p-133f);
  EXPECT_EQ(float_from_bf16(0x7F80), infinity);
  EXPECT_TRUE(std::isnan(float_from_bf16(0x7FC0)));
}

// --- files of ours ---------------------------------------------------------------------------------------------------

template <typename T>
class RoundTrip : public Safetensors {};
using Scalars = testing::Types<double, float, std::int64_t, std::int32_t, std::int16_t, std::int8_t, std::uint64_t,
                               std::uint32_t, std::uint16_t, std::uint8_t, bool>;
TYPED_TEST_SUITE(RoundTrip, Scalars);

TYPED_TEST(RoundTrip, GivesTheSameBits) {
  using T = TypeParam;
  using Limits = std::numeric_limits<T>;
  Tensor<T> extremes(Shape{2, 2, 1}, T(1));
  extremes(0, 0, 0) = Limits::lowest();
  extremes(0, 1, 0) = Limits::max();
  if constexpr (Limits::has_quiet_NaN) extremes(1, 0, 0) = Limits::quiet_NaN();
  Tensor<double> sizes = normal<double>(Shape{70'001}, 1, 20);
  for (double& size : sizes.array()) size = std::abs(size);
  const Tensor<T> many = sizes.template cast<T>();
  this->write({to_write("extremes", extremes), to_write("many", many), to_write("none", Tensor<T>(Shape{0, 3})),
               to_write("one", Tensor<T>(Shape{}, T(1)))});
  const SafetensorsFile file(this->file_);
  EXPECT_EQ(file.find("many")->dtype, dtype_of<T>());
  EXPECT_TRUE(same_bits(read<T>(file, "extremes"), extremes));
  EXPECT_TRUE(same_bits(read<T>(file, "many"), many));
  EXPECT_TRUE(same_bits(read<T>(file, "none"), Tensor<T>(Shape{0, 3})));
  EXPECT_TRUE(same_bits(read<T>(file, "one"), Tensor<T>(Shape{}, T(1))));
  EXPECT_TRUE(same_bits(read<double>(file, "many"), many.template cast<double>()));
  EXPECT_TRUE(same_bits(read<float>(file, "many"), many.template cast<float>()));
}

TEST_F(Safetensors, OpenToWhatTheySay) {
  write({to_write("byte", Tensor<std::uint8_t>(Shape{3}, 7)), to_write("b", Tensor<float>(Shape{2, 2}, 1)),
         to_write("double", Tensor<double>(Shape{1}, 2)), to_write("a", Tensor<float>(Shape{1, 1, 3}, 3))},
        {{"format", "pt"}, {"epoch", "3"}});
  const SafetensorsFile file(file_);
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "pt"}, {"epoch", "3"}}));
  ASSERT_EQ(file.tensors().size(), 4u);  // the widest first, then as given
  EXPECT_EQ(file.tensors()[0].name, "double");
  EXPECT_EQ(file.tensors()[1].name, "b");
  EXPECT_EQ(file.tensors()[2].name, "a");
  EXPECT_EQ(file.tensors()[2].shape, (Shape{1, 1, 3}));
  EXPECT_EQ(file.tensors()[2].begin, 24u);
  EXPECT_EQ(file.tensors()[2].end, 36u);
  EXPECT_EQ(file.tensors()[3].dtype, Dtype::U8);
  EXPECT_EQ(file.find("a"), &file.tensors()[2]);
  EXPECT_EQ(file.find("c"), nullptr);
  EXPECT_EQ(file.find(""), nullptr);
}

TEST_F(Safetensors, AreTheSameBytesEachTimeAndAligned) {
  const auto save = [&] {
    write({to_write("b", Tensor<std::uint8_t>(Shape{1}, 2)), to_write("a \"\n\u00e9", Tensor<float>(Shape{1}, 1))},
          {{"z", "1"}, {"a", "2"}});
    return content(file_);
  };
  const std::string bytes = save();
  EXPECT_EQ(save(), bytes);
  std::string header = "{\"__metadata__\":{\"a\":\"2\",\"z\":\"1\"},"
                       "\"a \\\"\\n\u00e9\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                       "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[4,5]}}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  EXPECT_EQ(bytes, with_length(header) + bytes_of(1.f) + '\2');
  EXPECT_EQ(read<float>(SafetensorsFile(file_), "a \"\n\u00e9"), Tensor<float>(Shape{1}, 1));
  write({});
  EXPECT_EQ(content(file_), with_length("{}      "));
  EXPECT_TRUE(SafetensorsFile(file_).tensors().empty());
}

TEST_F(Safetensors, ComeFromAnyNumberOfPieces) {
  const Tensor<double> many = normal<double>(Shape{1000});
  write({{"many", Dtype::F64, many.shape(), [&](const ByteSink& sink) {
            for (Index i = 0; i < many.size(); i += 10) sink(std::as_bytes(std::span(many.cdata() + i, 10)));
          }}});
  EXPECT_EQ(read<double>(SafetensorsFile(file_), "many"), many);
}

TEST_F(Safetensors, RefuseToBeWrittenWrong) {
  const Tensor<float> x(Shape{2});
  using Metadata = std::map<std::string, std::string>;
  const auto writing = [&](const std::vector<TensorToWrite>& tensors, const Metadata& metadata = {}) {
    return message([&] { write(tensors, metadata); });
  };
  EXPECT_EQ(writing({to_write("a", x), to_write("a", x)}),
            file_ + ": expected tensors of different names, none of them __metadata__, got 'a' twice");
  EXPECT_EQ(writing({to_write("__metadata__", x)}),
            file_ + ": expected tensors of different names, none of them __metadata__, got '__metadata__'");
  EXPECT_EQ(writing({to_write("\xff", x)}), file_ + ": expected names and metadata in UTF-8, got '\xff'");
  EXPECT_EQ(writing({}, {{"key", "\xc3("}}), file_ + ": expected names and metadata in UTF-8, got '\xc3('");
  EXPECT_EQ(writing({raw("a", Dtype::F16, Shape{3}, "12345")}),
            file_ + ": tensor 'a': expected 6 bytes for F16 [3], got 5");
  EXPECT_EQ(writing({raw("a", Dtype::F16, Shape{2}, "12345")}),
            file_ + ": tensor 'a': expected 4 bytes for F16 [2], got 5");
  EXPECT_EQ(writing({{"a", Dtype::F64, Shape{Index{1} << 51}, {}}}),
            file_ + ": expected at most 9007199254740992 bytes of data, got 18014398509481984 with 'a'");
  EXPECT_EQ(writing({}, {{"a", std::string(17'000'000, '\1')}}),  // six bytes each in JSON
            file_ + ": expected a header of at most 100000000 bytes, got 102000032");
  EXPECT_TRUE(fs::is_empty(folder_));
}

// --- numbers of one type, read as another ----------------------------------------------------------------------------

TEST_F(Safetensors, AreReadAsFloatsWhateverTheyHold) {
  const std::string halves = bytes_of(std::array<std::uint16_t, 3>{0x3C00, 0xC000, 0x0001});
  const std::string brains = bytes_of(std::array<std::uint16_t, 3>{0x3F80, 0xC000, 0x7F80});
  write({raw("f16", Dtype::F16, Shape{3}, halves), raw("bf16", Dtype::BF16, Shape{3}, brains),
         raw("bool", Dtype::BOOL, Shape{3}, std::string("\0\1\2", 3)),
         to_write("f64", Tensor<double>(Shape{2}, 0.1)), to_write("i64", Tensor<std::int64_t>(Shape{1}, -(1LL << 60))),
         to_write("u64", Tensor<std::uint64_t>(Shape{1}, ~std::uint64_t{0}))});
  const SafetensorsFile file(file_);
  EXPECT_EQ(read<float>(file, "f16"), Tensor<float>(Shape{3}, std::vector<float>{1, -2, 0x1p-24f}));
  EXPECT_EQ(read<double>(file, "f16"), Tensor<double>(Shape{3}, std::vector<double>{1, -2, 0x1p-24}));
  EXPECT_EQ(read<float>(file, "bf16"),
            Tensor<float>(Shape{3}, std::vector<float>{1, -2, std::numeric_limits<float>::infinity()}));
  EXPECT_EQ(read<float>(file, "bool"), Tensor<float>(Shape{3}, std::vector<float>{0, 1, 1}));
  EXPECT_EQ(read<std::uint8_t>(file, "bool"), Tensor<std::uint8_t>(Shape{3}, std::vector<std::uint8_t>{0, 1, 1}));
  EXPECT_TRUE(read<bool>(file, "bool")(2));
  EXPECT_EQ(read<float>(file, "f64"), Tensor<float>(Shape{2}, 0.1f));
  EXPECT_EQ(read<float>(file, "i64"), Tensor<float>(Shape{1}, -0x1p60f));
  EXPECT_EQ(read<double>(file, "u64"), Tensor<double>(Shape{1}, 0x1p64));
}

TEST_F(Safetensors, AreReadAsWholeNumbersWhereThoseHoldThem) {
  Tensor<std::int64_t> labels(Shape{20'000}, 255);
  write({to_write("labels", labels), to_write("minus", Tensor<std::int8_t>(Shape{2}, -1)),
         to_write("large", Tensor<std::uint64_t>(Shape{1}, std::uint64_t{1} << 63)),
         to_write("f", Tensor<float>(Shape{1}))});
  const SafetensorsFile file(file_);
  EXPECT_EQ(read<std::uint8_t>(file, "labels"), Tensor<std::uint8_t>(Shape{20'000}, 255));
  EXPECT_EQ(read<std::uint64_t>(file, "labels"), Tensor<std::uint64_t>(Shape{20'000}, 255));
  EXPECT_EQ(read<std::int64_t>(file, "minus"), Tensor<std::int64_t>(Shape{2}, -1));
  EXPECT_EQ(message([&] { read<std::uint8_t>(file, "minus"); }),
            file_ + ": tensor 'minus': expected numbers that U8 holds, got -1 at position 0");
  EXPECT_EQ(message([&] { read<std::uint64_t>(file, "minus"); }),
            file_ + ": tensor 'minus': expected numbers that U64 holds, got -1 at position 0");
  EXPECT_EQ(message([&] { read<std::int64_t>(file, "large"); }),
            file_ + ": tensor 'large': expected numbers that I64 holds, got 9.22337e+18 at position 0");
  EXPECT_EQ(message([&] { read<std::int64_t>(file, "f"); }),
            file_ + ": tensor 'f': expected numbers that I64 holds, got F32");
  EXPECT_EQ(message([&] { read<bool>(file, "labels"); }),
            file_ + ": tensor 'labels': expected numbers that BOOL holds, got I64");
  labels(15'000) = 256;
  write({to_write("labels", labels)});
  EXPECT_EQ(message([&] { read<std::uint8_t>(SafetensorsFile(file_), "labels"); }),
            file_ + ": tensor 'labels': expected numbers that U8 holds, got 256 at position 15000");
}

// --- what is no safetensors file -------------------------------------------------------------------------------------

TEST_F(Safetensors, AreNotWhatCannotBeOpened) {
  const auto opening_path = [](const std::string& path) { return message([&] { SafetensorsFile file(path); }); };
  EXPECT_EQ(opening_path(path("none")), path("none") + ": could not open: No such file or directory");
  EXPECT_EQ(opening_path(folder_.string()), folder_.string() + ": expected a file, got a folder");
  ASSERT_EQ(mkfifo(path("pipe").c_str(), 0600), 0);
  EXPECT_EQ(opening_path(path("pipe")), path("pipe") + ": expected a file, got a device or pipe");
  EXPECT_EQ(opening_path("/dev/null"), "/dev/null: expected a file, got a device or pipe");
  EXPECT_EQ(opening(""), "expected at least 8 bytes, got 0");
  EXPECT_EQ(opening("1234567"), "expected at least 8 bytes, got 7");
}

TEST_F(Safetensors, AreNotWhatMayNotBeRead) {
  write({});
  fs::permissions(file_, fs::perms::none);
  const uid_t user = geteuid();
  ASSERT_EQ(user == 0 ? seteuid(65534) : 0, 0);  // root may read everything
  const std::string text = message([&] { SafetensorsFile file(file_); });
  ASSERT_EQ(user == 0 ? seteuid(user) : 0, 0);
  EXPECT_EQ(text, file_ + ": could not open: Permission denied");
}

TEST_F(Safetensors, AreNotLongerThanTheirFile) {
  const auto length = [](std::uint64_t value) { return bytes_of(value); };
  EXPECT_EQ(opening(length(std::uint64_t{1} << 63) + "{}"),
            "expected a header of at most 2 bytes (the file has 10), got 9223372036854775808");
  EXPECT_EQ(opening(length(~std::uint64_t{0}) + "{}"),
            "expected a header of at most 2 bytes (the file has 10), got 18446744073709551615");
  EXPECT_EQ(opening(length(3) + "{}"), "expected a header of at most 2 bytes (the file has 10), got 3");
  EXPECT_EQ(opening(length(0)), "expected a header that begins with '{', got nothing");
  put(file_, length(100'000'001));
  fs::resize_file(file_, 200'000'000);
  EXPECT_EQ(message([&] { SafetensorsFile file(file_); }),
            file_ + ": expected a header of at most 100000000 bytes (the file has 200000000), got 100000001");

  const std::string header = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  EXPECT_EQ(opening(with_length(header) + "12345678"), "no error");
  EXPECT_EQ(opening(with_length(header) + "1234567"),
            "tensor 'a': expected data_offsets within the 7 bytes of data, got [0, 8]");
  EXPECT_EQ(opening(with_length(header) + "123456789"), "expected tensors for all 9 bytes of data, got 8");
  EXPECT_EQ(opening(with_length("{}") + "1"), "expected tensors for all 1 bytes of data, got 0");
}

TEST_F(Safetensors, AreNotReadBeyondTheirEnd) {
  write({to_write("a", Tensor<float>(Shape{1000}, 1)), to_write("b", Tensor<std::uint8_t>(Shape{50}, 1))});
  const SafetensorsFile file(file_);
  fs::resize_file(file_, fs::file_size(file_) - 51);
  const std::string end = std::to_string(fs::file_size(file_));
  EXPECT_EQ(message([&] { read<float>(file, "a"); }),
            file_ + ": expected 1 more bytes at " + end + ", but the file ends there");
  expect_error([&] { read<double>(file, "b"); }, "but the file ends there");
}

struct Refused {
  std::string header, message;
};

TEST(SafetensorsHeaders, ThatBreakARuleAreRefused) {
  const std::string dtypes = "a dtype among F64, F32, F16, BF16, I64, I32, I16, I8, U64, U32, U16, U8 and BOOL";
  const std::string sizes = "a shape of at most 8 whole numbers from 0 to 9007199254740992";
  const std::string offsets = "data_offsets of two whole numbers from 0 to 9007199254740992";
  const std::string members = "expected dtype, shape and data_offsets, got ";
  const auto a = [](const std::string& shape, const std::string& data_offsets, const std::string& dtype = "\"U8\"") {
    return "{\"a\":{\"dtype\":" + dtype + ",\"shape\":" + shape + ",\"data_offsets\":" + data_offsets + "}}";
  };
  const auto two = [](const std::string& first, const std::string& second) {
    return "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" + first +
           "},\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" + second + "}}";
  };
  const std::vector<Refused> corpus{
      // not an object
      {"[]", "expected a header that begins with '{', got ["},
      {" {}", "expected a header that begins with '{', got  "},
      {"\n", "expected a header that begins with '{', got ?"},
      // not JSON
      {"{", "expected a header of well-formed JSON"},
      {"{}x", "expected a header of well-formed JSON"},
      {"{}{}", "expected a header of well-formed JSON"},
      {std::string("{}\0", 3), "expected a header of well-formed JSON, got a zero byte in it"},
      {"{} // comment", "expected a header of well-formed JSON"},
      {"{\"a\":}", "expected a header of well-formed JSON"},
      {"{\"a\" {}}", "expected a header of well-formed JSON"},
      {"{'a':1}", "expected a header of well-formed JSON"},
      {a("[NaN]", "[0,8]"), "expected a header of well-formed JSON"},
      {a("[08]", "[0,8]"), "expected a header of well-formed JSON"},
      {a("[8]", "[0,8]").substr(0, 40), "expected a header of well-formed JSON"},
      {a("[8,]", "[0,8]"), "expected a header of well-formed JSON"},
      // not UTF-8, not Unicode
      {"{\"\xff\":1}", "ill-formed UTF-8 byte"},
      {"{\"\xc0\x80\":1}", "ill-formed UTF-8 byte"},
      {"{\"\xed\xa0\x80\":1}", "ill-formed UTF-8 byte"},
      {"{\"\\ud800\":1}", "surrogate"},
      {"{\"__metadata__\":{\"a\":\"\xf5\"}}", "ill-formed UTF-8 byte"},
      // bombs
      {"{\"a\":" + std::string(1'000'000, '['), "tensor 'a': expected an object, got an array"},
      {"{\"a\":{\"shape\":" + std::string(1'000'000, '['), "tensor 'a': expected " + sizes + ", got an array"},
      {"{\"a\":{\"b\":{\"c\":{", "tensor 'a': " + members + "'b'"},
      {a("[0,0,0,0,0,0,0,0,0]", "[0,8]"), "tensor 'a': expected " + sizes + ", got more"},
      // twice
      {two("[0,4]", "[4,8]").replace(54, 1, "a"), "expected names once, got tensor 'a' twice"},
      {"{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\"}}", "tensor 'a': expected names once, got dtype twice"},
      {"{\"a\":{\"shape\":[1],\"shape\":[1]}}", "tensor 'a': expected names once, got shape twice"},
      {"{\"a\":{\"data_offsets\":[0,8],\"data_offsets\":[0,8]}}", "expected names once, got data_offsets twice"},
      {"{\"__metadata__\":{\"k\":\"1\",\"k\":\"1\"}}", "__metadata__ 'k': expected names once, got this one twice"},
      {"{\"__metadata__\":{},\"__metadata__\":{}}", "expected names once, got '__metadata__' twice"},
      // metadata of anything but strings
      {"{\"__metadata__\":[]}", "__metadata__: expected an object, got an array"},
      {"{\"__metadata__\":null}", "__metadata__: expected an object, got null"},
      {"{\"__metadata__\":{\"k\":3}}", "__metadata__ 'k': expected a string, got 3"},
      {"{\"__metadata__\":{\"k\":true}}", "__metadata__ 'k': expected a string, got true"},
      {"{\"__metadata__\":{\"k\":{}}}", "__metadata__ 'k': expected a string, got an object"},
      // tensors of other things
      {"{\"a\":1}", "tensor 'a': expected an object, got 1"},
      {"{\"a\":\"U8\"}", "tensor 'a': expected an object, got a string"},
      {"{\"a\":{}}", "tensor 'a': " + members + "no dtype no shape no data_offsets"},
      {"{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,8]}}", "tensor 'a': " + members + "no shape"},
      {"{\"a\":{\"strides\":[1]}}", "tensor 'a': " + members + "'strides'"},
      {a("[8]", "[0,8]", "\"F8_E4M3\""), "tensor 'a': expected " + dtypes + ", got 'F8_E4M3'"},
      {a("[8]", "[0,8]", "\"u8\""), "tensor 'a': expected " + dtypes + ", got 'u8'"},
      {a("[8]", "[0,8]", "8"), "tensor 'a': expected " + dtypes + ", got 8"},
      {a("8", "[0,8]"), "tensor 'a': expected an array as shape, got 8"},
      {a("{}", "[0,8]"), "tensor 'a': expected an array as shape, got an object"},
      // sizes and offsets that are no whole numbers
      {a("[8.0]", "[0,8]"), "tensor 'a': expected " + sizes + ", got 8.0"},
      {a("[8e0]", "[0,8]"), "tensor 'a': expected " + sizes + ", got 8e0"},
      {a("[-1]", "[0,8]"), "tensor 'a': expected " + sizes + ", got -1"},
      {a("[-9223372036854775808]", "[0,8]"), "tensor 'a': expected " + sizes + ", got -9223372036854775808"},
      {a("[-0]", "[0,8]"), "tensor 'a': expected " + sizes + ", got -0"},
      {a("[9007199254740993]", "[0,8]"), "tensor 'a': expected " + sizes + ", got 9007199254740993"},
      {a("[18446744073709551616]", "[0,8]"), "tensor 'a': expected " + sizes + ", got 18446744073709551616"},
      {a("[\"8\"]", "[0,8]"), "tensor 'a': expected " + sizes + ", got a string"},
      {a("[null]", "[0,8]"), "tensor 'a': expected " + sizes + ", got null"},
      {a("[8]", "[0]"), "tensor 'a': expected " + offsets + ", got [0]"},
      {a("[8]", "[0,8,8]"), "tensor 'a': expected " + offsets + ", got more"},
      {a("[8]", "[0,8.0]"), "tensor 'a': expected " + offsets + ", got 8.0"},
      {a("[8]", "[-1,8]"), "tensor 'a': expected " + offsets + ", got -1"},
      // too large
      {a("[4294967296,4294967296]", "[0,8]"),
       "tensor 'a': expected a shape of at most 9007199254740992 elements, got [4294967296, 4294967296]"},
      {a("[4294967296,4294967296,0]", "[0,0]"), "elements, got [4294967296, 4294967296, 0]"},
      {a("[9007199254740992]", "[0,8]"),
       "tensor 'a': expected 9007199254740992 bytes for U8 [9007199254740992], got 8 (data_offsets [0, 8])"},
      {a("[9007199254740992]", "[0,8]", "\"F64\""),
       "tensor 'a': expected 72057594037927936 bytes for F64 [9007199254740992], got 8 (data_offsets [0, 8])"},
      // bytes that are not there, and too many or few
      {a("[9]", "[0,9]"), "tensor 'a': expected data_offsets within the 8 bytes of data, got [0, 9]"},
      {a("[0]", "[9,9]"), "tensor 'a': expected data_offsets within the 8 bytes of data, got [9, 9]"},
      {a("[8]", "[8,0]"), "tensor 'a': expected data_offsets within the 8 bytes of data, got [8, 0]"},
      {a("[7]", "[0,8]"), "tensor 'a': expected 7 bytes for U8 [7], got 8 (data_offsets [0, 8])"},
      {a("[]", "[0,8]", "\"F32\""), "tensor 'a': expected 4 bytes for F32 [], got 8 (data_offsets [0, 8])"},
      // gaps and overlaps
      {two("[0,4]", "[3,7]"), "without gap or overlap, got 'b' at bytes 3 to 7 where the one before ends at 4"},
      {two("[4,8]", "[4,8]"), "without gap or overlap, got 'a' at bytes 4 to 8 where the one before ends at 0"},
      {two("[0,4]", "[0,4]"), "without gap or overlap, got 'b' at bytes 0 to 4 where the one before ends at 4"},
      {a("[7]", "[1,8]"), "without gap or overlap, got 'a' at bytes 1 to 8 where the one before ends at 0"},
      {a("[4]", "[0,4]"), "expected tensors for all 8 bytes of data, got 4"},
      {"{}", "expected tensors for all 8 bytes of data, got 0"}};
  for (const Refused& refused : corpus) {
    const std::string text = message([&] { parse_safetensors_header(refused.header, 8, "x.safetensors"); });
    EXPECT_EQ(text.find("x.safetensors: "), 0u) << refused.header.substr(0, 200);
    EXPECT_NE(text.find(refused.message), std::string::npos)
        << refused.header.substr(0, 200) << "\n  says " << text << "\n  and not " << refused.message;
  }
  EXPECT_EQ(message([&] { parse_safetensors_header(two("[4,8]", "[0,4]"), 8, "x"); }), "no error");
  EXPECT_EQ(message([&] { parse_safetensors_header(a("[8]", "[0,8]") + " \n\t", 8, "x"); }), "no error");
}

TEST(SafetensorsHeaders, AreShownWithoutTheirControlCharacters) {
  const std::string name = R"(\u001b[31m\n)";
  EXPECT_EQ(message([&] { parse_safetensors_header("{\"" + name + "\":1}", 0, "x"); }),
            "x: tensor '?[31m?': expected an object, got 1");
  std::string long_name;
  for (int i = 0; i < 1000; ++i) long_name += "\u00e9";
  const std::string text = message([&] { parse_safetensors_header("{\"x" + long_name + "\":1}", 0, "x"); });
  EXPECT_EQ(text, "x: tensor 'x" + long_name.substr(0, 158) + "…': expected an object, got 1");
}

TEST(SafetensorsHeaders, MayHaveTensorsOfNoBytesAnywhere) {
  const auto tensor = [](const std::string& name, int size, int begin) {
    return "\"" + name + "\":{\"dtype\":\"U8\",\"shape\":[" + std::to_string(size) + "],\"data_offsets\":[" +
           std::to_string(begin) + "," + std::to_string(begin + size) + "]}";
  };
  const std::string tail = "," + tensor("c", 0, 8) + "," + tensor("a", 0, 0) + "}";
  const auto header = parse_safetensors_header("{" + tensor("d", 0, 8) + "," + tensor("b", 8, 0) + tail, 8, "x");
  std::string names;
  for (const TensorInfo& info : header.tensors) names += info.name;
  EXPECT_EQ(names, "abdc");
  for (const TensorInfo& info : header.tensors) EXPECT_EQ(header.find(info.name), &info);
  expect_error([&] { parse_safetensors_header("{" + tensor("b", 8, 0) + "," + tensor("c", 0, 5) + "}", 8, "x"); },
               "got 'c' at bytes 5 to 5 where the one before ends at 8");
}

// --- files of others -------------------------------------------------------------------------------------------------

TEST_F(Safetensors, AreReadByPython) {
  if (access("/usr/bin/python3", X_OK) != 0) GTEST_SKIP() << "there is no /usr/bin/python3";
  const std::string halves = bytes_of(std::array<std::uint16_t, 2>{0x3E00, 0xC000});
  const std::string brains = bytes_of(std::array<std::uint16_t, 2>{0x3FC0, 0xC000});
  write({to_write("f64", Tensor<double>(Shape{1, 2}, 1.5)), to_write("f32", Tensor<float>(Shape{2}, 2.5f)),
         raw("f16", Dtype::F16, Shape{2}, halves), raw("bf16", Dtype::BF16, Shape{2, 1}, brains),
         to_write("i64", Tensor<std::int64_t>(Shape{2}, -3)), to_write("i32", Tensor<std::int32_t>(Shape{2}, -4)),
         to_write("i16", Tensor<std::int16_t>(Shape{2}, -5)), to_write("i8", Tensor<std::int8_t>(Shape{2}, -6)),
         to_write("u64", Tensor<std::uint64_t>(Shape{2}, 7)), to_write("u32", Tensor<std::uint32_t>(Shape{2}, 8)),
         to_write("u16", Tensor<std::uint16_t>(Shape{2}, 9)), to_write("u8", Tensor<std::uint8_t>(Shape{0}, 10)),
         to_write("bool", Tensor<bool>(Shape{}, true))},
        {{"quoted \"key\"", "value"}});
  EXPECT_EQ(python("show"), "{'quoted \"key\"': 'value'}\n"
                            "f64 F64 [1, 2] 1.5 1.5\ni64 I64 [2] -3 -3\nu64 U64 [2] 7 7\n"
                            "f32 F32 [2] 2.5 2.5\ni32 I32 [2] -4 -4\nu32 U32 [2] 8 8\n"
                            "f16 F16 [2] 1.5 -2\nbf16 BF16 [2, 1] 1.5 -2\ni16 I16 [2] -5 -5\nu16 U16 [2] 9 9\n"
                            "i8 I8 [2] -6 -6\nu8 U8 [0] \nbool BOOL [] 1\n");
}

TEST_F(Safetensors, OfPythonAreRead) {
  if (access("/usr/bin/python3", X_OK) != 0) GTEST_SKIP() << "there is no /usr/bin/python3";
  python("make");
  const SafetensorsFile file(file_);
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"made by", "Python"}, {"ключ", "值"}}));
  ASSERT_EQ(file.tensors().size(), 13u);
  for (const TensorInfo& info : file.tensors()) {
    std::vector<float> expected{1, 2, 3};
    if (info.dtype == Dtype::BF16) expected[2] = -3;
    if (info.dtype == Dtype::BOOL) expected = {1, 0, 1};
    EXPECT_EQ(info.name, "of " + std::string(name_of(info.dtype)));
    EXPECT_EQ(file.read<float>(info), Tensor<float>(Shape({3, 1}), expected)) << info.name;
  }
}

TEST_F(Safetensors, OfPretrainedNetworksAreRead) {
  const char* data = std::getenv("RESIDUA_DATA");
  if (data == nullptr) GTEST_SKIP() << "RESIDUA_DATA is not set";
  for (const auto& [name, blocks] : {std::pair("cifar10_resnet20", 3), std::pair("cifar10_resnet32", 5)}) {
    const SafetensorsFile file(fs::path(data) / "pretrained" / (std::string(name) + ".safetensors"));
    EXPECT_EQ(file.metadata().at("format"), "pt");
    ASSERT_NE(file.find("conv1.weight"), nullptr);
    EXPECT_EQ(file.find("conv1.weight")->shape, (Shape{16, 3, 3, 3}));
    for (int layer = 1; layer <= 3; ++layer) {
      const std::string last = "layer" + std::to_string(layer) + "." + std::to_string(blocks - 1);
      ASSERT_NE(file.find(last + ".conv2.weight"), nullptr) << name << last;
      const Index features = 8 << layer;
      EXPECT_EQ(file.find(last + ".conv2.weight")->shape, (Shape{features, features, 3, 3}));
      EXPECT_EQ(file.find(last + ".bn2.running_var")->shape, (Shape{features}));
      EXPECT_EQ(file.find("layer" + std::to_string(layer) + "." + std::to_string(blocks) + ".conv1.weight"), nullptr);
    }
    EXPECT_EQ(file.find("linear.weight")->shape, (Shape{10, 64}));
    EXPECT_GT(read<float>(file, "bn1.running_var").carray().minCoeff(), 0.f);
  }
}

}  // namespace
