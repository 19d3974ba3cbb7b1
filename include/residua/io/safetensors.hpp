// safetensors files, read and written. Needs nlohmann-json: CMake target residua::io.
#pragma once

#include <residua/io/safetensors_file.hpp>
#include <residua/io/write_safetensors.hpp>
