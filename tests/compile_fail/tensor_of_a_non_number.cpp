// error: residua: a Tensor holds numbers
#include <residua/residua.hpp>

using namespace residua;

#include <string>

int main() { Tensor<std::string> words; }
