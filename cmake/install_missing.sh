# install_missing PACKAGE...: installs those Debian packages that are missing. Sourced by the run.sh scripts.
install_missing() {
  if ! command -v apt-get >/dev/null; then
    echo "No apt-get here: expecting a C++20 compiler, CMake, Ninja and Eigen, known on Debian as: $*"
    return
  fi
  local package missing=() sudo=()
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  if [ ${#missing[@]} -eq 0 ]; then
    return
  fi
  echo "== Installing ${missing[*]}"
  [ "$(id -u)" = 0 ] || sudo=(sudo)
  "${sudo[@]}" apt-get update -q </dev/null
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends "${missing[@]}" </dev/null
}
