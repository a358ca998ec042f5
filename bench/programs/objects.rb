# SPDX-License-Identifier: MIT
# Allocation as Ruby programs do it: objects, hashes, strings. Argument: rounds.
Item = Struct.new(:key, :places, :note)

state = 1
draw = lambda do |limit|
  state = (state * 1_103_515_245 + 12_345) % 2_147_483_648
  state / 65_536 % limit
end

sum = 0
ARGV[0].to_i.times do |round|
  items = {}
  20_000.times do |i|
    key = "k#{draw.call(5000)}" + 'x' * draw.call(30)
    item = (items[key] ||= Item.new(key, [], "round #{round}"))
    item.places << i
  end
  text = items.values.sort_by(&:key).map { |item| "#{item.key}:#{item.places.join(',')}" }.join(' ')
  sum += text.gsub(/x+/, 'X').size + text.scan(/k\d+/).size
end
puts sum
