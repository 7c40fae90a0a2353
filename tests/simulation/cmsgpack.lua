-- What Valkey's cmsgpack does with the values that Meterline packs: strings, whole numbers, booleans, tables.
-- Written in Lua so that tables come to be in the same steps, and `pairs` goes through them in the same order.

local byte, char, sub, floor, concat = string.byte, string.char, string.sub, math.floor, table.concat

local function big_endian(n, bytes)
  local parts = {}
  for index = bytes, 1, -1 do
    parts[index] = char(n % 256)
    n = floor(n / 256)
  end
  return concat(parts)
end

local function pack_number(n)
  assert(n == floor(n) and n < 2 ^ 63 and n >= -2 ^ 53, 'only whole numbers are simulated')
  if n >= 0 then
    if n <= 127 then return char(n) end
    if n <= 0xff then return char(0xcc, n) end
    if n <= 0xffff then return char(0xcd) .. big_endian(n, 2) end
    if n <= 0xffffffff then return char(0xce) .. big_endian(n, 4) end
    return char(0xcf) .. big_endian(n, 8)
  end
  if n >= -32 then return char(256 + n) end
  if n >= -128 then return char(0xd0, 256 + n) end
  if n >= -32768 then return char(0xd1) .. big_endian(65536 + n, 2) end
  if n >= -2147483648 then return char(0xd2) .. big_endian(4294967296 + n, 4) end
  local low = n % 4294967296
  return char(0xd3) .. big_endian(4294967296 + floor(n / 4294967296), 4) .. big_endian(low, 4)
end

local function pack_string(text)
  local length = #text
  if length < 32 then return char(0xa0 + length) .. text end
  if length <= 0xff then return char(0xd9, length) .. text end
  if length <= 0xffff then return char(0xda) .. big_endian(length, 2) .. text end
  return char(0xdb) .. big_endian(length, 4) .. text
end

local function head(length, fixed, medium)
  if length <= 15 then return char(fixed + length) end
  if length <= 0xffff then return char(medium) .. big_endian(length, 2) end
  return char(medium + 1) .. big_endian(length, 4)
end

local function pack_into(out, value)
  local kind = type(value)
  if kind == 'string' then
    out[#out + 1] = pack_string(value)
  elseif kind == 'number' then
    out[#out + 1] = pack_number(value)
  elseif kind == 'boolean' then
    out[#out + 1] = char(value and 0xc3 or 0xc2)
  elseif kind == 'table' then
    local count, largest, is_array = 0, 0, true
    for k in pairs(value) do
      count = count + 1
      if type(k) ~= 'number' or k <= 0 or k ~= floor(k) then
        is_array = false
      elseif k > largest then
        largest = k
      end
    end
    if is_array and largest == count then
      out[#out + 1] = head(count, 0x90, 0xdc)
      for index = 1, count do pack_into(out, value[index]) end
    else
      out[#out + 1] = head(count, 0x80, 0xde)
      for k, v in pairs(value) do
        pack_into(out, k)
        pack_into(out, v)
      end
    end
  else
    out[#out + 1] = char(0xc0)
  end
end

local function number_at(text, at, bytes)
  local n = 0
  for index = at, at + bytes - 1 do n = n * 256 + byte(text, index) end
  return n
end

local unpack_at

local function array_at(text, at, length)
  local made = {}
  for index = 1, length do made[index], at = unpack_at(text, at) end
  return made, at
end

local function map_at(text, at, length)
  local made, k, v = {}, nil, nil
  for _ = 1, length do
    k, at = unpack_at(text, at)
    v, at = unpack_at(text, at)
    made[k] = v
  end
  return made, at
end

local function string_at(text, at, length)
  assert(at + length - 1 <= #text, 'Missing bytes in input.')
  return sub(text, at, at + length - 1), at + length
end

local WIDTHS = { [0xcc] = 1, [0xcd] = 2, [0xce] = 4, [0xcf] = 8 }
local SIGNED = { [0xd0] = 1, [0xd1] = 2, [0xd2] = 4 }

function unpack_at(text, at)
  local tag = byte(text, at)
  at = at + 1
  if tag <= 0x7f then return tag, at end
  if tag <= 0x8f then return map_at(text, at, tag - 0x80) end
  if tag <= 0x9f then return array_at(text, at, tag - 0x90) end
  if tag <= 0xbf then return string_at(text, at, tag - 0xa0) end
  if tag >= 0xe0 then return tag - 256, at end
  if tag == 0xc0 then return nil, at end
  if tag == 0xc2 then return false, at end
  if tag == 0xc3 then return true, at end
  local width = WIDTHS[tag]
  if width then return number_at(text, at, width), at + width end
  width = SIGNED[tag]
  if width then
    local n = number_at(text, at, width)
    return n >= 256 ^ width / 2 and n - 256 ^ width or n, at + width
  end
  if tag == 0xd3 then
    local high, low = number_at(text, at, 4), number_at(text, at + 4, 4)
    if high >= 2147483648 then high = high - 4294967296 end
    return high * 4294967296 + low, at + 8
  end
  if tag == 0xd9 then return string_at(text, at + 1, number_at(text, at, 1)) end
  if tag == 0xda then return string_at(text, at + 2, number_at(text, at, 2)) end
  if tag == 0xdb then return string_at(text, at + 4, number_at(text, at, 4)) end
  if tag == 0xdc then return array_at(text, at + 2, number_at(text, at, 2)) end
  if tag == 0xdd then return array_at(text, at + 4, number_at(text, at, 4)) end
  if tag == 0xde then return map_at(text, at + 2, number_at(text, at, 2)) end
  if tag == 0xdf then return map_at(text, at + 4, number_at(text, at, 4)) end
  error('not simulated: tag ' .. tag)
end

cmsgpack = {
  pack = function(value)
    local out = {}
    pack_into(out, value)
    return concat(out)
  end,
  unpack = function(text)
    return (unpack_at(text, 1))
  end,
}
