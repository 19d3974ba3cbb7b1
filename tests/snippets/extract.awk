# Writes each ```cpp block of a Markdown page to a program of its own, FOLDER/PREFIX_<line>.cpp, and prints its path.
#
#   a block with `int main`                       stands as it is
#   one with a template, struct or class          is made of declarations: it must compile
#   any other                                     is what stands in a main, after the names of given.hpp
#
# Usage: awk -v folder=FOLDER -v prefix=PREFIX -f extract.awk PAGE.md

/^```cpp *$/ { inside = 1; line = NR; includes = body = ""; next }
/^```/ && inside { inside = 0; write(); next }
inside && /^#include|^using namespace/ { includes = includes $0 "\n"; next }
inside { body = body $0 "\n" }

function write(   path) {
  path = folder "/" prefix "_" line ".cpp"
  print "// From line " line " of " FILENAME ".\n" includes > path
  if (body ~ /int main\(/) {
    print body > path
  } else if (("\n" body) ~ /\n(template|struct|class) ?/) {
    print "#include \"given.hpp\"\n" body "\nint main() {}" > path
  } else {
    print "#include \"given.hpp\"\nint main() {\n  GIVEN\n  {\n" body "  }\n}" > path
  }
  close(path)
  print path
}
