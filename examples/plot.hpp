// The curves of a training run as a picture, where gnuplot is there.
#pragma once

#include "common.hpp"

#include <filesystem>

namespace examples {

/// Draws the columns of a history, which `csv` holds, into an SVG beside it: loss, accuracy and learning rate by epoch.
/// Returns its path, or an empty one where there is no gnuplot or it drew nothing.
inline std::filesystem::path plot_history(const std::filesystem::path& csv, const residua::History& history) {
  std::filesystem::path svg = csv;
  svg.replace_extension(".svg");
  std::FILE* const gnuplot = popen("gnuplot 2>/dev/null", "w");
  if (gnuplot == nullptr) return {};
  const auto columns = history.columns();
  const auto quoted = [](const std::string& text) {  // in gnuplot's single quotes a quote is written twice
    std::string result = "'";
    for (char c : text) result += c == '\'' ? std::string("''") : std::string(1, c);
    return result + "'";
  };
  std::string script = "set terminal svg size 900,900 font 'sans-serif,13' background rgb 'white'\n"
                       "set output " + quoted(svg.string()) + "\nset datafile separator ','\n"
                       "set multiplot layout 3,1\nset lmargin at screen 0.09\nset rmargin at screen 0.83\n"
                       "set grid\nset key outside right\nset xlabel 'epoch'\n";
  const auto panel = [&](const std::string& title, std::initializer_list<std::pair<std::string, std::string>> curves) {
    std::string plot;
    for (const auto& [column, name] : curves) {
      const auto found = std::find(columns.begin(), columns.end(), column);
      if (found == columns.end()) continue;
      plot += (plot.empty() ? "plot " : ", ") + quoted(csv.string()) + " skip 1 using 1:" +
              std::to_string(found - columns.begin() + 1) + " with linespoints pointtype 7 pointsize 0.4 linewidth 2 title " +
              quoted(name);
    }
    if (!plot.empty()) script += "set ylabel " + quoted(title) + "\n" + plot + "\n";
  };
  panel("loss", {{"loss", "training"}, {"val_loss", "test"}});
  panel("accuracy", {{"accuracy", "training"}, {"val_accuracy", "test"}});
  panel("learning rate", {{"lr", "at the epoch's end"}});
  std::fputs((script + "unset multiplot\n").c_str(), gnuplot);
  const bool drawn = pclose(gnuplot) == 0 && std::filesystem::exists(svg);
  return drawn ? svg : std::filesystem::path();
}

}  // namespace examples
