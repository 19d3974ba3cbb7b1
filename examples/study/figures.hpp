// Figures: numbers as CSV, and as a picture where gnuplot is there.
#pragma once

#include "results.hpp"

#include <array>
#include <cerrno>
#include <cstdlib>
#include <regex>
#include <set>

#include <spawn.h>
#include <sys/wait.h>

extern char** environ;

namespace study {

/// One curve: y by x, within low … high. Told apart by colour, and a marker that goes with it, and by dash.
struct Curve {
  struct Point {
    double x, y, low, high;
    Point(double at, const Spread& s) : x(at), y(s.mean), low(s.least), high(s.most) {}
  };
  std::string name;
  std::size_t colour, dash;
  std::vector<Point> points = {};
};

struct Figure {
  std::string file, title, x, y;
  bool log_x = false, log_y = false;
  std::vector<Curve> curves = {};
};

inline std::string short_number(double value, const char* format = "%.3g") {
  char text[40];
  std::snprintf(text, sizeof text, format, value);
  return text[0] == '-' && std::atof(text) == 0 ? text + 1 : text;  // no -0.0
}

inline std::string csv(const Figure& figure) {
  std::string text = "curve,x,y,low,high\n";
  for (const Curve& curve : figure.curves) {
    for (const auto& p : curve.points) {
      text += '"' + curve.name + '"';
      for (const double value : {p.x, p.y, p.low, p.high}) text += ',' + short_number(value, "%.9g");
      text += '\n';
    }
  }
  return text;
}

/// What gnuplot is told: colours are those of Okabe and Ito (2008), which all people can tell apart.
inline std::string script(const Figure& figure, const fs::path& svg) {
  static constexpr std::array colours{"#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#888888"};
  const auto quoted = [](const std::string& text) {  // in gnuplot's single quotes a quote is written twice
    std::string result = "'";
    for (const char c : text) result += c == '\'' ? std::string("''") : std::string(1, c);
    return result + "'";
  };
  // gnuplot takes no infinities, and nothing that is not positive on a logarithmic axis.
  const auto shown = [&](double value) {
    return std::isfinite(value) && !(figure.log_y && value <= 0) ? short_number(value, "%.6g") : std::string("NaN");
  };
  std::set<double> places;
  for (const Curve& curve : figure.curves) {
    for (const auto& p : curve.points) places.insert(p.x);
  }
  std::string ticks;  // where there are few places, at each of them
  if (places.size() <= 15) {
    for (const double x : places) ticks += (ticks.empty() ? "set xtics (" : ", ") + short_number(x, "%g");
    if (!ticks.empty()) ticks += ")\n";
  }
  std::string text = "set terminal svg size 600,400 dynamic font 'sans-serif,13' name " + quoted(figure.file) +
                     "\nset output " + quoted(svg.string()) + "\nset datafile missing 'NaN'\nset grid\nset autoscale xfix\n" +
                     "set key outside below height 1 maxcols 3\nset xlabel " + quoted(figure.x) + "\nset ylabel " + quoted(figure.y) +
                     "\n" + (figure.log_x ? "set logscale x\n" : "") +
                     (figure.log_y ? "set logscale y\nset format y '%g'\nunset mytics\n" : "") +
                     "unset mxtics\n" + ticks;
  if (figure.log_x && !places.empty()) {
    text += "set xrange [" + short_number(*places.begin() / 1.1) + ':' + short_number(*places.rbegin() * 1.1) + "]\n";
  }
  std::string plot;
  for (std::size_t i = 0; i < figure.curves.size(); ++i) {
    const Curve& curve = figure.curves[i];
    const std::string block = "$curve" + std::to_string(i), colour = colours[curve.colour % colours.size()];
    const std::string dash = std::to_string(curve.dash % 5 + 1), point = std::to_string(curve.colour % 6 * 2 + 5),
                      every = std::to_string(curve.points.size() / 20 + 1);
    text += block + " << end\n";
    for (const auto& p : curve.points) {
      text += short_number(p.x, "%.9g") + ' ' + shown(p.y) + ' ' + shown(p.low) + ' ' + shown(p.high) + '\n';
    }
    text += "end\n";
    plot += (i == 0 ? "plot " : ", ") + block + " using 1:3:4 with filledcurves fillcolor rgb '" + colour +
            "' fillstyle transparent solid 0.15 noborder notitle, " + block + " using 1:2 with linespoints linewidth 2 " +
            "dashtype " + dash + " pointtype " + point + " pointinterval " + every + " pointsize 0.6 linecolor rgb '" +
            colour + "' title " + quoted(curve.name);
  }
  return text + plot + '\n';
}

/// Writes a figure's CSV, script and picture into `folder`. Returns the picture, or nothing where gnuplot is missing or
/// drew none; `error` says why.
inline std::string draw(const Figure& figure, const fs::path& folder, std::string& error) {
  const fs::path base = folder / figure.file, commands = fs::path(base).replace_extension(".gnuplot"),
                 svg = fs::path(base).replace_extension(".svg");
  write_file_atomically(fs::path(base).replace_extension(".csv"), csv(figure));
  write_file_atomically(commands, script(figure, svg));
  fs::remove(svg);
  std::string program = "gnuplot", argument = commands.string();
  char* words[] = {program.data(), argument.data(), nullptr};
  pid_t process = 0;
  if (const int reason = ::posix_spawnp(&process, words[0], nullptr, nullptr, words, environ); reason != 0) {
    error = "there are no pictures, only CSV: could not run gnuplot: " + std::string(std::strerror(reason));
    return {};
  }
  int status = 0;
  ::waitpid(process, &status, 0);
  std::string picture = text_of(svg);
  if (status != 0 || picture.empty()) error = "gnuplot did not draw " + argument;
  const std::size_t begin = picture.find("<svg");
  if (begin == std::string::npos) return {};
  // Many pictures stand in one page, where no two things may have the same name.
  static const std::regex name("(id=['\"]|#)(gp|gnuplot_canvas|textbox|greybox)");
  return std::regex_replace(picture.substr(begin), name, "$1" + figure.file + "_$2");
}

}  // namespace study
