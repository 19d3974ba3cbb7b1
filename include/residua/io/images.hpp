// Images from files: PNG and JPEG, by libpng and libjpeg. Not part of residua.hpp; the target is residua::images.
#pragma once

#include <residua/io/images/image_folder.hpp>
#include <residua/io/images/read_image.hpp>
