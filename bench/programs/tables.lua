-- SPDX-License-Identifier: MIT
-- Allocation as Lua programs do it: tables, closures, strings. Argument: rounds.
local state, sum = 1, 0

local function draw(limit)
  state = (state * 1103515245 + 12345) % 2147483648
  return state // 65536 % limit
end

for round = 1, tonumber(arg[1]) do
  local tree = {}
  for i = 1, 20000 do
    local key = "k" .. draw(5000) .. string.rep("x", draw(12))
    local list = tree[key] or {}
    list[#list + 1] = function() return i + round end
    tree[key] = list
  end
  local keys = {}
  for key in pairs(tree) do
    keys[#keys + 1] = key
  end
  table.sort(keys)
  for rank, key in ipairs(keys) do
    sum = (sum + rank * tree[key][1]()) % 1000000007
  end
  sum = (sum + #table.concat(keys, ",")) % 1000000007
end
print(sum)
