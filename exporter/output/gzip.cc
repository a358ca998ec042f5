// SPDX-License-Identifier: MIT

#include "exporter/output/gzip.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <new>

namespace slabscope {

std::string gzip(std::string_view bytes) {
  constexpr int kWindowBits = 15 + 16;  // +16: a gzip header, not zlib's own
  constexpr int kMemory = 8;
  constexpr size_t kStep = 1 << 30;  // zlib counts in 32 bits
  z_stream stream{};
  if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kWindowBits, kMemory,
                   Z_DEFAULT_STRATEGY) != Z_OK) {
    throw std::bad_alloc();
  }
  std::string packed;
  std::array<char, 64 << 10> buffer;
  int state = Z_OK;
  while (state != Z_STREAM_END) {
    if (stream.avail_in == 0 && !bytes.empty()) {
      const size_t step = std::min(bytes.size(), kStep);
      // zlib does not write through this pointer; its type is older than const.
      stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
      stream.avail_in = static_cast<uInt>(step);
      bytes.remove_prefix(step);
    }
    stream.next_out = reinterpret_cast<Bytef*>(buffer.data());
    stream.avail_out = static_cast<uInt>(buffer.size());
    state = deflate(&stream, bytes.empty() ? Z_FINISH : Z_NO_FLUSH);
    packed.append(buffer.data(), buffer.size() - stream.avail_out);
  }
  deflateEnd(&stream);
  return packed;
}

}  // namespace slabscope
