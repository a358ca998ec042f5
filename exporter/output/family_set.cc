// SPDX-License-Identifier: MIT

#include "exporter/output/family_set.h"

#include <prometheus/text_serializer.h>

#include <locale>
#include <sstream>

#include "exporter/base/text.h"

namespace slabscope {

prometheus::ClientMetric::Label label(std::string name, std::string_view value) {
  return {std::move(name), printable_utf8(value)};
}

Labels with(const Labels& labels, std::string name, std::string_view value) {
  Labels more = labels;
  more.push_back(label(std::move(name), value));
  return more;
}

void FamilySet::add(const FamilyInfo& info, const Labels& labels, double value) {
  auto found = index_.find(info.name);
  if (found == index_.end()) {
    found = index_.emplace(std::string(info.name), families_.size()).first;
    prometheus::MetricFamily family;
    family.name = info.name;
    family.help = info.help;
    family.type = info.kind == MetricKind::kCounter ? prometheus::MetricType::Counter
                                                    : prometheus::MetricType::Gauge;
    families_.push_back(std::move(family));
  }
  prometheus::ClientMetric metric;
  metric.label = labels;
  if (info.kind == MetricKind::kCounter) {
    metric.counter.value = value;
  } else {
    metric.gauge.value = value;
  }
  families_[found->second].metric.push_back(std::move(metric));
}

std::string serialize(const std::vector<prometheus::MetricFamily>& families) {
  std::ostringstream text;
  text.imbue(std::locale::classic());
  prometheus::TextSerializer().Serialize(text, families);
  return std::move(text).str();
}

}  // namespace slabscope
