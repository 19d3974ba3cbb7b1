// What a user's program does with images: reads one, here of no bytes.
#include <iostream>

#include <residua/io/images.hpp>
#include <residua/residua.hpp>

using namespace residua;

int main() {
  try {
    std::cout << decode_image({}).shape() << '\n';
  } catch (const Error& error) {
    std::cout << error.what() << '\n';
  }
}
