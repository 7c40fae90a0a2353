#!lua name=meterline
-- The decision: one call decides a batch of operations of one cell.
--
-- It loads what the batch touches, works on it as plain tables, and writes only at the very end. An error on the way
-- therefore changes nothing. What it decided goes, with the state that it left behind, into the cell's stream, from
-- where any process can journal it. Numbers are doubles: every amount and volume is a whole number below 2^53, and
-- what could leave that range is refused. services/rating/engine/wire.py is the other side of every layout here.

local pack, unpack_blob, floor, ceil, min, max -- libraries are there only while a call runs

local NOTHING = {} -- read only
local EXACT_MAX = 9007199254740991 -- 2^53 - 1
local SWEEP_MAX = 20 -- expired sessions closed by one call

-- A holder: what one payer has. The endpoint is one, an account with balances or a limit is one. BLOCKED names, as
-- digits, the services of which reported usage was not covered. COUNTERS are what prices count over days and cycles,
-- each {begin of the period, count, begin of the period before, its count}, and over the sessions of events, each
-- {time of the last use, count}.
local VERSION, BUCKETS, MONEY, MONEY_RESERVED, USED, USED_RESERVED, LIMIT, LIMIT_VERSION, BLOCKED, COUNTERS = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
local COUNTERS_KEPT_S = 100 * 86400
local SESSIONS_COUNTED_MAX = 16
-- A bucket of a holder. RENEWAL is there only if it is filled again in another way than with GRANTED at each cycle, or
-- announces itself at shares of its own. What rolls over from a cycle is a bucket whose VALIDITY is ROLLED.
local ID, REF, PRIORITY, ROLE, REMAINING, RESERVED, GRANTED, STATE, ACTIVATED, EXPIRES, VALIDITY, CYCLES, UNIT, RENEWAL = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14
local ROLLED = -1
-- A renewal, by name: quantity (what it is filled with), on (ON_EXPIRY, ON_EXHAUSTION; 0 with the cycles only), most
-- (occurrences, 0 without end), number (of the present one), last_end (when it ends for good, 0 never), cycles (for
-- how many a rest rolls over), shares (used, at which to say so, percent).
local ROLE_BASE, ROLE_POOL = 2, 3
local UNIT_MONEY = 4
local PENDING, ACTIVE, DEPLETED, EXPIRED = 1, 2, 3, 4
-- A step of a program. RATE is a simple price; PRICING, in its place, one that counts over more than a record or has
-- tiers, bounds or fees. POOL is a second holder whose buckets may be drawn.
local HOLDER, MODE, REFS, RATE, NO_RATE, PRICING, POOL = 1, 2, 3, 4, 5, 6, 7
local UNLIMITED, PREPAID, POSTPAID = 0, 1, 2
-- A rate.
local INCREMENT, MINIMUM, NUMERATOR, DENOMINATOR = 1, 2, 3, 4
-- A program.
local DENY_REASON, DENY_STEP, STEPS, SERVICE, ACCOUNTS = 1, 2, 3, 4, 5
-- Kinds of operations.
local CHARGE, CONFIGURE, TOP_UP, SESSION = 1, 2, 3, 4
local REFILL = 9
-- Modes of a charge.
local ONLINE, OFFLINE = 1, 2
-- Outcomes.
local CHARGED, REFUSED, REPEATED, REUSED, STALE, DONE, FAILED = 0, 1, 2, 3, 4, 5, 6
-- Reasons, as in the contract.
local BALANCE_DEPLETED, NO_VALID_ADDON, USAGE_LIMIT, CREDIT_LIMIT, ENDPOINT_BLOCKED, AMOUNT_OUT_OF_RANGE = 1, 2, 3, 4, 11, 27
-- Kinds of movements, as in the contract.
local GRANT, DRAW, TOPPED_UP, EXPIRY, REMOVAL = 1, 2, 3, 4, 5
local ROLLED_OVER, REFILLED = 9, 10
-- Kinds of notices: what people want to hear of. Each goes with a value.
local NOTICE = { SHARE_USED = 1, USED_UP = 2, ENDED = 3, ACTIVATED = 4, RENEWED = 5, BLOCKED = 6, UNBLOCKED = 7 }
-- What a draw says of itself, added up.
local DRAW_ACTIVATED, DRAW_OF_POOL, DRAW_OF_MONEY = 1, 2, 4
-- A session.
local SEQUENCE, SESSION_STATE, SESSION_HASH, SESSION_ANSWER, VALID_UNTIL, RESERVATIONS, ABOUT, COUNTS = 1, 2, 3, 4, 5, 6, 7, 8
local OPEN, RELEASED, SESSION_EXPIRED = 1, 2, 3
local CREATE, UPDATE, RELEASE = 0, 1, 2
local SESSION_NOT_FOUND, SESSION_CLOSED, OUT_OF_SEQUENCE, REF_REUSED, OVERFLOW = 1, 2, 3, 4, 5
local NO_SUCH_BUCKET = 15
local CLOSED_SESSION_KEPT_MS = 86400000

-- The state of one call. Set anew at its beginning; nothing is kept between calls.
local cell, now, holders, dirty, sessions, dirty_sessions, moves, notices, op_index, owner_of

local function key(kind, name)
  return cell .. kind .. name
end

local function holder(name)
  local found = holders[name]
  if found == nil then
    local blob = redis.call('GET', key('h:', name))
    found = blob and unpack_blob(blob) or false
    holders[name] = found
  end
  return found
end

local function move(name, bucket, kind, change)
  moves[#moves + 1] = { op_index, name, bucket, kind, change }
end

local function notice(name, bucket, kind, value)
  notices[#notices + 1] = { op_index, name, bucket, kind, value }
end

-- Money ---------------------------------------------------------------------------------------------------------

-- Rounded up once, to whole micros. A published tariff keeps numerator * denominator below 2^53.
local function price_of_blocks(rate, blocks)
  local numerator, denominator = rate[NUMERATOR], rate[DENOMINATOR]
  local whole = floor(blocks / denominator)
  local product = (blocks - whole * denominator) * numerator
  return whole * numerator + ceil(product / denominator)
end

local function blocks_of(rate, quantity)
  if quantity < rate[MINIMUM] then
    quantity = rate[MINIMUM]
  end
  return ceil(quantity / rate[INCREMENT])
end

-- The largest part of `quantity` whose price is within `money`.
local function affordable(rate, quantity, money)
  local low, high = 0, blocks_of(rate, quantity)
  while low < high do
    local middle = ceil((low + high) / 2)
    if price_of_blocks(rate, middle) <= money then
      low = middle
    else
      high = middle - 1
    end
  end
  if low * rate[INCREMENT] < rate[MINIMUM] then
    return 0
  end
  return min(quantity, low * rate[INCREMENT])
end

-- Prices that count ---------------------------------------------------------------------------------------------
--
-- A component has a cumulative price P of its count; a use that raises the count from V by q costs P(V + q) - P(V).
-- (A chunk of Lua has at most 200 local names: those of one section stand in a block of their own.)

local set_count, quote
do
-- A pricing, its components, their tiers, and its caps.
local COMPONENTS, CAPS = 1, 2
local COUNTER, OWNER, PERIOD, METER, FREE, BLOCK, LEAST, TIER_MODE, TIERS, OVER, LOWEST, HIGHEST, ROUND_TO, ROUNDING = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14
local BLOCKS_MAX, BLOCK_PRICE, FLAT, ACTION = 1, 2, 3, 4
local CAP_AMOUNT, CAP_ACTION = 4, 5
local IN_SESSION, IN_RECORD = -1, 0
local METER_RECORDS, METER_COST = 2, 3
local TIERS_BY_VOLUME = 2
local UP, HALF_UP = 1, 2
local THROTTLE, REFUSE = 3, 4

-- Rounds an exact price of `whole` micros and rest / over, rest below over, to the component's unit.
local function rounded(part, whole, rest)
  local unit, over = part[ROUND_TO], part[OVER]
  if part[ROUNDING] == UP then
    return ceil((whole + (rest > 0 and 1 or 0)) / unit) * unit
  elseif part[ROUNDING] == HALF_UP then
    if unit == 1 then
      return whole + (2 * rest >= over and 1 or 0)
    end
    return floor((whole + unit / 2) / unit) * unit
  end
  return floor(whole / unit) * unit
end

-- The price of a count over the component's scope, and what becomes of use at its height.
local function cumulative(part, count)
  if count <= part[FREE] then
    return 0, 0
  end
  local over, tiers = part[OVER], part[TIERS]
  local blocks = ceil(max(count - part[FREE], part[LEAST]) / part[BLOCK])
  local whole, rest, before, last = 0, 0, 0, nil
  for _, tier in ipairs(tiers) do
    local reach = (tier[BLOCKS_MAX] == 0 or blocks < tier[BLOCKS_MAX]) and blocks or tier[BLOCKS_MAX]
    if part[TIER_MODE] ~= TIERS_BY_VOLUME or reach == blocks then
      local inside = part[TIER_MODE] == TIERS_BY_VOLUME and blocks or reach - before
      local times = floor(inside / over)
      whole = whole + tier[FLAT] + times * tier[BLOCK_PRICE]
      rest = rest + (inside - times * over) * tier[BLOCK_PRICE]
    end
    before, last = reach, tier
    if reach == blocks then
      break
    end
  end
  local carried = floor(rest / over)
  whole, rest = whole + carried, rest - carried * over
  if whole < part[LOWEST] then
    whole, rest = part[LOWEST], 0
  end
  if part[HIGHEST] >= 0 and whole >= part[HIGHEST] then
    whole, rest = part[HIGHEST], 0
  end
  return rounded(part, whole, rest), last[ACTION]
end

-- Where a count stands, for the period that a use lies in.
local function counted(counter, owner, period, use)
  if period == IN_RECORD then
    return 0
  elseif period == IN_SESSION then
    if use.session then
      return use.session[counter] or 0
    elseif use.session_ref == '' then
      return 0
    end
    local found = holder(use.endpoint)[COUNTERS][counter .. '|' .. use.session_ref]
    return found and found[2] or 0
  end
  local payer = holder(owner == '' and use.endpoint or owner)
  local found, begin = payer[COUNTERS][counter], use.periods[period]
  if not found then
    return 0
  elseif found[1] == begin then
    return found[2]
  end
  return found[3] == begin and found[4] or 0
end

-- Keeps the count of a session of events; of many, those last used.
local function count_in_session(counters, name, time, count)
  if not counters[name] then
    local sessions_counted, oldest = 0, nil
    for other, found in pairs(counters) do
      if string.find(other, '|', 1, true) then
        sessions_counted = sessions_counted + 1
        if not oldest or found[1] < counters[oldest][1] or (found[1] == counters[oldest][1] and other < oldest) then
          oldest = other
        end
      end
    end
    if sessions_counted >= SESSIONS_COUNTED_MAX then
      counters[oldest] = nil
    end
  end
  counters[name] = { time, count }
end

function set_count(counter, owner, period, count, use)
  if period == IN_SESSION then
    if use.session then
      use.session[counter] = count
    elseif use.session_ref ~= '' then
      count_in_session(holder(use.endpoint)[COUNTERS], counter .. '|' .. use.session_ref, floor(use.time / 1000), count)
      dirty[use.endpoint] = true
    end
    return
  end
  local name = owner == '' and use.endpoint or owner
  local counters, begin = holder(name)[COUNTERS], use.periods[period]
  local found = counters[counter]
  if not found then
    counters[counter] = { begin, count, 0, 0 }
  elseif found[1] == begin then
    found[2] = count
  elseif found[3] == begin then
    found[4] = count
  elseif begin > found[1] then
    counters[counter] = { begin, count, found[1], found[2] }
  elseif begin > found[3] then
    found[3], found[4] = begin, count
  end
  dirty[name] = true
end

-- What a use of `quantity` units costs: amount, counts to set, whether it is to be slowed down, why it may not pass.
function quote(pricing, quantity, use)
  local amount, counts, throttled, refused = 0, {}, false, nil
  for _, part in ipairs(pricing[COMPONENTS]) do
    local before = counted(part[COUNTER], part[OWNER], part[PERIOD], use)
    local count = before + (part[METER] == METER_RECORDS and 1 or part[METER] == METER_COST and use.cost or quantity)
    local price, action = cumulative(part, count)
    amount = amount + price - cumulative(part, before)
    throttled = throttled or action == THROTTLE
    if action == REFUSE then
      refused = USAGE_LIMIT
    end
    if price > EXACT_MAX or count > EXACT_MAX then
      return 0, counts, false, AMOUNT_OUT_OF_RANGE
    end
    if part[PERIOD] ~= IN_RECORD then
      counts[#counts + 1] = { part[COUNTER], part[OWNER], part[PERIOD], count }
    end
  end
  for _, cap in ipairs(pricing[CAPS]) do
    local before = counted(cap[COUNTER], cap[OWNER], cap[PERIOD], use)
    local count = before + amount
    amount = min(count, cap[CAP_AMOUNT]) - min(before, cap[CAP_AMOUNT])
    if count > cap[CAP_AMOUNT] then
      throttled = throttled or cap[CAP_ACTION] == THROTTLE
      if cap[CAP_ACTION] == REFUSE then
        refused = USAGE_LIMIT
      end
    end
    counts[#counts + 1] = { cap[COUNTER], cap[OWNER], cap[PERIOD], count }
  end
  return amount, counts, throttled, refused
end

end

-- Buckets -------------------------------------------------------------------------------------------------------

local available, refresh, refresh_all, supply, notice_use, within_last_end
do
local ON_EXPIRY, ON_EXHAUSTION = 1, 2
local USUAL_SHARES = { 80 }
local SUPPLY_MAX = 4503599627370496 -- 2^52: what a bucket without end of renewals counts for

local function may_renew(bucket, on)
  local renewal = bucket[RENEWAL]
  return renewal and renewal.on >= on and bucket[STATE] ~= PENDING
    and (renewal.most == 0 or renewal.number < renewal.most)
end

-- What a bucket can still give: what nobody has reserved, and the occurrences that its exhaustion would begin.
function available(bucket)
  local free = bucket[REMAINING] - bucket[RESERVED]
  if bucket[RENEWAL] and may_renew(bucket, ON_EXHAUSTION) then
    local renewal = bucket[RENEWAL]
    local left = renewal.most == 0 and EXACT_MAX or renewal.most - renewal.number
    return min(SUPPLY_MAX, free + left * renewal.quantity)
  end
  return free
end

-- Fills a bucket anew. What sessions have reserved they now have of the new volume.
local function fill(name, bucket, quantity, ends)
  bucket[REMAINING], bucket[GRANTED], bucket[EXPIRES] = quantity, quantity, ends
  bucket[STATE] = bucket[STATE] == PENDING and PENDING or ACTIVE
  bucket[RESERVED] = min(bucket[RESERVED], quantity)
  move(name, bucket[ID], GRANT, quantity)
end

local function lose_rest(name, bucket)
  if bucket[REMAINING] > 0 then
    move(name, bucket[ID], EXPIRY, -bucket[REMAINING])
    notice(name, bucket[ID], NOTICE.ENDED, bucket[REMAINING])
    bucket[REMAINING] = 0
  end
end

local function end_for_good(name, bucket)
  if bucket[STATE] == DEPLETED then
    notice(name, bucket[ID], NOTICE.ENDED, 0)
  end
  bucket[STATE], bucket[RESERVED] = EXPIRED, 0
end

function within_last_end(bucket, ends)
  local last = bucket[RENEWAL].last_end
  return last == 0 and ends or ends == 0 and last or min(ends, last)
end

-- The occurrence that a moment lies in begins where the one before ended. Those between, of which nobody asked for
-- anything, count, but leave no entries: what they granted they lost.
local function renew_after_end(name, bucket, time)
  local renewal, validity = bucket[RENEWAL], bucket[VALIDITY]
  local periods = validity > 0 and floor((time - bucket[EXPIRES]) / validity) + 1 or 0
  local ended = validity == 0 or (renewal.last_end ~= 0 and time >= renewal.last_end)
  if ended or (renewal.most > 0 and renewal.number + periods > renewal.most) then
    if not ended then
      renewal.number = renewal.most
    end
    end_for_good(name, bucket)
    return
  end
  renewal.number = renewal.number + periods
  fill(name, bucket, renewal.quantity, within_last_end(bucket, bucket[EXPIRES] + periods * validity))
  notice(name, bucket[ID], NOTICE.RENEWED, renewal.number)
end

-- At each boundary that has passed, what is left becomes a bucket of its own for some cycles.
local function roll_over(name, payer, bucket, time)
  local bounds, at = { bucket[EXPIRES] }, 1
  for _, boundary in ipairs(bucket[CYCLES]) do
    if boundary > bucket[EXPIRES] then
      bounds[#bounds + 1] = boundary
    end
  end
  while bounds[at] and bounds[at] <= time do
    local rest, ends = bucket[REMAINING], bounds[at + bucket[RENEWAL].cycles]
    if rest > 0 and ends and ends > time then
      local id = bucket[ID] .. '~' .. string.format('%d', floor(bounds[at] / 1000))
      move(name, bucket[ID], ROLLED_OVER, -rest)
      move(name, id, ROLLED_OVER, rest)
      payer[BUCKETS][#payer[BUCKETS] + 1] = { id, bucket[REF], bucket[PRIORITY], bucket[ROLE], rest, 0, rest, ACTIVE,
        bucket[ACTIVATED], ends, ROLLED, {}, bucket[UNIT] }
    else
      lose_rest(name, bucket)
    end
    at = at + 1
    if bounds[at] then
      fill(name, bucket, bucket[RENEWAL].quantity, bounds[at])
    else
      bucket[REMAINING] = 0
      end_for_good(name, bucket)
    end
  end
end

-- Expiry, re-subscription and the roll-over to a new cycle happen here, when somebody looks, so nothing runs at
-- midnight.
function refresh(name, payer, bucket, time)
  if bucket[EXPIRES] == 0 or time < bucket[EXPIRES] or bucket[STATE] == EXPIRED then
    return false
  end
  local renewal = bucket[RENEWAL]
  if renewal and renewal.cycles > 0 then
    roll_over(name, payer, bucket, time)
    return true
  end
  lose_rest(name, bucket)
  if may_renew(bucket, ON_EXPIRY) then
    renew_after_end(name, bucket, time)
    return true
  end
  for _, boundary in ipairs(bucket[CYCLES]) do
    if boundary > time then
      fill(name, bucket, renewal and renewal.quantity or bucket[GRANTED], boundary)
      return true
    end
  end
  end_for_good(name, bucket)
  return true
end

-- Refreshes buckets (`refs` nil: all); drops rests of former cycles that are used up or have ended.
function refresh_all(name, payer, refs, time)
  local buckets, changed = payer[BUCKETS], false
  for index = 1, #buckets do -- those that roll over on the way come behind
    local bucket = buckets[index]
    if (refs == nil or refs[bucket[REF]]) and refresh(name, payer, bucket, time) then
      changed = true
    end
  end
  if not changed then
    return
  end
  dirty[name] = true
  local kept = {}
  for _, bucket in ipairs(buckets) do
    if bucket[VALIDITY] ~= ROLLED or (bucket[REMAINING] > 0 and bucket[STATE] ~= EXPIRED) then
      kept[#kept + 1] = bucket
    end
  end
  payer[BUCKETS] = kept
end

-- Begins as many occurrences of a bucket as it needs to give `take` of what nobody has reserved.
function supply(name, bucket, take, time)
  local short = take - (bucket[REMAINING] - bucket[RESERVED])
  if short <= 0 then
    return
  end
  local renewal = bucket[RENEWAL]
  local times = ceil(short / renewal.quantity)
  bucket[REMAINING], bucket[GRANTED] = bucket[REMAINING] + times * renewal.quantity, renewal.quantity
  renewal.number, bucket[STATE] = renewal.number + times, ACTIVE
  if bucket[VALIDITY] > 0 then
    bucket[EXPIRES] = within_last_end(bucket, max(bucket[EXPIRES], time + bucket[VALIDITY]))
  end
  move(name, bucket[ID], GRANT, times * renewal.quantity)
  notice(name, bucket[ID], NOTICE.RENEWED, renewal.number)
end

-- Says which shares of what a bucket was filled with are used up now and were not before.
function notice_use(name, bucket, before)
  local after, granted = bucket[REMAINING], bucket[GRANTED]
  for _, percent in ipairs(bucket[RENEWAL] and bucket[RENEWAL].shares or USUAL_SHARES) do
    local left = floor(granted / 100) * (100 - percent) + floor(granted % 100 * (100 - percent) / 100)
    if before > left and after <= left then
      notice(name, bucket[ID], NOTICE.SHARE_USED, percent)
    end
  end
  if after == 0 then
    notice(name, bucket[ID], NOTICE.USED_UP, granted)
  end
end

end

local function rank(bucket)
  if bucket[ROLE] == ROLE_BASE then
    return 4
  elseif bucket[ROLE] == ROLE_POOL then
    return 3
  end
  return bucket[STATE] == PENDING and 2 or 1
end

-- Add-ons, then the pool, then base benefits; active before not yet activated add-ons; then priority, rests of former
-- cycles, earliest end, earliest activation, id: total and deterministic.
local function drawn_before(a, b)
  local rank_a, rank_b = rank(a), rank(b)
  if rank_a ~= rank_b then
    return rank_a < rank_b
  end
  if a[PRIORITY] ~= b[PRIORITY] then
    return a[PRIORITY] < b[PRIORITY]
  end
  local rest_a, rest_b = a[VALIDITY] == ROLLED, b[VALIDITY] == ROLLED
  if rest_a ~= rest_b then
    return rest_a
  end
  if a[EXPIRES] ~= b[EXPIRES] then
    return b[EXPIRES] == 0 or (a[EXPIRES] ~= 0 and a[EXPIRES] < b[EXPIRES])
  end
  if a[ACTIVATED] ~= b[ACTIVATED] then
    return a[ACTIVATED] < b[ACTIVATED]
  end
  return a[ID] < b[ID]
end

local function add_eligible(found, name, payer, refs, time)
  refresh_all(name, payer, refs, time)
  for _, bucket in ipairs(payer[BUCKETS]) do
    if refs[bucket[REF]] and bucket[STATE] ~= EXPIRED and available(bucket) > 0 then
      owner_of[bucket] = name
      found[#found + 1] = bucket
    end
  end
end

local function eligible(step, name, payer, time)
  local found = {}
  if payer then
    add_eligible(found, name, payer, step[REFS], time)
  end
  if step[POOL] then
    add_eligible(found, step[POOL], holder(step[POOL]), step[REFS], time)
  end
  if found[2] then
    table.sort(found, drawn_before)
  end
  return found
end

local function headroom_of(step, payer)
  if step[MODE] == PREPAID then
    return payer[MONEY] - payer[MONEY_RESERVED]
  elseif step[MODE] == POSTPAID then
    return payer[LIMIT] - payer[USED] - payer[USED_RESERVED]
  end
  return EXACT_MAX
end

-- The amount of the simple price of a volume, as `quote` gives it of the others.
local function simple_quote(rate, quantity)
  local amount = price_of_blocks(rate, blocks_of(rate, quantity))
  return amount, NOTHING, false, amount > EXACT_MAX and AMOUNT_OUT_OF_RANGE or nil
end

-- Prices the largest part of what no volume covers that may pass and can be paid; buckets of money pay first.
local function cover_rated(coverage, step, payer, left, wallets, use)
  local pricing, headroom = step[PRICING], headroom_of(step, payer)
  for _, bucket in ipairs(wallets) do
    headroom = headroom + available(bucket)
  end
  local function priced(quantity)
    if pricing then
      return quote(pricing, quantity, use)
    end
    return simple_quote(step[RATE], quantity)
  end
  local rated = left
  local amount, counts, throttled, refused = priced(left)
  if refused or (amount > 0 and amount > headroom) then
    coverage.reason = refused or (step[MODE] == POSTPAID and CREDIT_LIMIT or BALANCE_DEPLETED)
    local low, high = 0, left - 1
    while low < high do
      local middle = ceil((low + high) / 2)
      local price, _, _, why = priced(middle)
      if why or (price > 0 and price > headroom) then
        high = middle - 1
      else
        low = middle
      end
    end
    rated, amount, counts, throttled = low, 0, NOTHING, false
    if rated > 0 then
      amount, counts, throttled = priced(rated)
    end
  end
  for _, bucket in ipairs(wallets) do
    local take = min(amount, available(bucket))
    if take > 0 then
      coverage.draws[#coverage.draws + 1] = { bucket, take }
      amount = amount - take
    end
  end
  coverage.rated, coverage.uncovered, coverage.amount = rated, left - rated, amount
  coverage.counts, coverage.throttled = counts, throttled
  return coverage
end

-- Phase one: what a step can cover of a volume, and from what. Changes no balance.
local function cover(step, name, payer, quantity, use)
  local left, draws, wallets = quantity, NOTHING, NOTHING
  if step[POOL] or (payer and payer[BUCKETS][1]) then
    draws, wallets = {}, {}
    for _, bucket in ipairs(eligible(step, name, payer, use.time)) do
      if bucket[UNIT] == UNIT_MONEY then
        wallets[#wallets + 1] = bucket
      elseif left > 0 then
        local take = min(left, available(bucket))
        draws[#draws + 1] = { bucket, take }
        left = left - take
      end
    end
  end
  local coverage = { draws = draws, benefit = quantity - left, rated = 0, uncovered = left, amount = 0, counts = NOTHING }
  if left == 0 then
    return coverage
  end
  local rate = step[RATE]
  if step[PRICING] or (rate and wallets[1]) then
    return cover_rated(coverage, step, payer, left, wallets, use)
  elseif not rate then
    coverage.reason = step[NO_RATE]
    return coverage
  end
  local amount = price_of_blocks(rate, blocks_of(rate, left))
  if amount > EXACT_MAX then
    coverage.reason = AMOUNT_OUT_OF_RANGE
    return coverage
  end
  if step[MODE] ~= UNLIMITED and rate[NUMERATOR] > 0 then
    local headroom = headroom_of(step, payer)
    if amount > headroom then
      local rated = affordable(rate, left, headroom)
      coverage.rated, coverage.uncovered = rated, left - rated
      coverage.reason = step[MODE] == PREPAID and BALANCE_DEPLETED or CREDIT_LIMIT
      coverage.amount = rated > 0 and price_of_blocks(rate, blocks_of(rate, rated)) or 0
      return coverage
    end
  end
  coverage.rated, coverage.uncovered, coverage.amount = left, 0, amount
  return coverage
end

local function draw_buckets(draws, time)
  local drawn = {}
  for index, entry in ipairs(draws) do
    local bucket, take = entry[1], entry[2]
    local name, what = owner_of[bucket], 0
    if bucket[STATE] == PENDING then
      what = DRAW_ACTIVATED
      bucket[STATE], bucket[ACTIVATED] = ACTIVE, time
      local ends = time + bucket[VALIDITY]
      if bucket[VALIDITY] > 0 and (bucket[EXPIRES] == 0 or ends < bucket[EXPIRES]) then
        bucket[EXPIRES] = ends
      end
      notice(name, bucket[ID], NOTICE.ACTIVATED, bucket[EXPIRES])
    end
    supply(name, bucket, take, time)
    local before = bucket[REMAINING]
    bucket[REMAINING] = before - take
    if bucket[REMAINING] == 0 then
      bucket[STATE] = DEPLETED
    end
    notice_use(name, bucket, before)
    dirty[name] = true
    what = what + (bucket[ROLE] == ROLE_POOL and DRAW_OF_POOL or 0) + (bucket[UNIT] == UNIT_MONEY and DRAW_OF_MONEY or 0)
    drawn[index] = { bucket[ID], take, what }
  end
  return drawn
end

-- Phase two: draw what was covered.
local function draw(step, name, payer, coverage, use)
  local drawn, amount = NOTHING, coverage.amount
  if coverage.draws[1] then
    drawn = draw_buckets(coverage.draws, use.time)
  end
  for _, count in ipairs(coverage.counts) do
    set_count(count[1], count[2], count[3], count[4], use)
  end
  if amount ~= 0 and step[MODE] ~= UNLIMITED then
    if step[MODE] == PREPAID then
      payer[MONEY] = payer[MONEY] - amount
    else
      payer[USED] = payer[USED] + amount
    end
    dirty[name] = true
  end
  return { coverage.benefit, coverage.rated, coverage.uncovered, amount, drawn }
end

local function step_holder(step, endpoint)
  local name = step[HOLDER]
  if name == '' then
    name = endpoint
  end
  if name == '-' then
    return name, nil -- a postpaid account without limit or benefits: only the fold sums it
  end
  return name, holder(name)
end

local function is_blocked(program, endpoint)
  local blocked = holder(endpoint)[BLOCKED]
  return blocked ~= '' and string.find(blocked, program[SERVICE], 1, true)
end

-- What lacked a balance blocks the service until there is one again; a missing rate does not.
local function block(program, endpoint, reason)
  local lacks_balance = reason == BALANCE_DEPLETED or reason == NO_VALID_ADDON or reason == CREDIT_LIMIT
  if lacks_balance and not is_blocked(program, endpoint) then
    local payer = holder(endpoint)
    payer[BLOCKED] = payer[BLOCKED] .. program[SERVICE]
    dirty[endpoint] = true
    notice(endpoint, '', NOTICE.BLOCKED, tonumber(program[SERVICE]))
  end
end

local function unblock(name, payer)
  if payer[BLOCKED] ~= '' then
    payer[BLOCKED] = ''
    notice(name, '', NOTICE.UNBLOCKED, 0)
  end
end

-- Charges a volume at every step, or, if it must be covered and is not, at none. A use is when it was, and, for
-- prices that count: begins of its periods, cost, and its session's counts or reference.
local function charge(program, endpoint, quantity, use, mode)
  local steps, coverages, uncovered, reason, throttled = program[STEPS], {}, 0, nil, false
  for index, step in ipairs(steps) do
    local name, payer = step_holder(step, endpoint)
    local coverage = cover(step, name, payer, quantity, use)
    throttled = throttled or coverage.throttled
    if coverage.uncovered > 0 then
      if mode == ONLINE then
        return { REFUSED, coverage.reason, index - 1 }
      end
      uncovered, reason = max(uncovered, coverage.uncovered), reason or coverage.reason
    end
    coverages[index] = coverage
  end
  local drawn = {}
  for index, step in ipairs(steps) do
    local name, payer = step_holder(step, endpoint)
    drawn[index] = draw(step, name, payer, coverages[index], use)
  end
  if reason then
    block(program, endpoint, reason)
  end
  return { CHARGED, uncovered, drawn, throttled or nil }
end

-- Operations ----------------------------------------------------------------------------------------------------

-- Whether the accounts that a program works with are configured as it expects; the same for all of a batch.
local function accounts_fresh(program, expected)
  if program.fresh == nil then
    program.fresh = true
    for _, name in ipairs(program[ACCOUNTS]) do
      local other = holder(name)
      program.fresh = program.fresh and other and other[VERSION] == expected[name]
    end
  end
  return program.fresh
end

local function fresh(program, endpoint, expected)
  local payer = holder(endpoint)
  return payer and payer[VERSION] == expected[endpoint] and accounts_fresh(program, expected)
end

local function charge_op(op, programs, expected)
  local program, endpoint = programs[op[5]], op[4]
  if not fresh(program, endpoint, expected) then
    return { STALE }
  end
  if op[8] == ONLINE then
    if program[DENY_REASON] ~= 0 then
      return { REFUSED, program[DENY_REASON], program[DENY_STEP] }
    end
    if is_blocked(program, endpoint) then
      return { REFUSED, ENDPOINT_BLOCKED, 0 }
    end
  end
  local use = { endpoint = endpoint, time = op[7], periods = op[9], cost = op[10], session_ref = op[11] }
  return charge(program, endpoint, op[6], use, op[8])
end

local configure_op
do
-- Brings a bucket that is there to what its assignment says now; what was drawn from it stays.
local function adjust_bucket(bucket, spec)
  local renewal = bucket[RENEWAL]
  bucket[PRIORITY], bucket[CYCLES] = spec[PRIORITY], spec[CYCLES]
  if renewal and renewal.on > 0 then
    renewal.last_end = spec[RENEWAL].last_end
    bucket[EXPIRES] = within_last_end(bucket, bucket[EXPIRES])
  elseif bucket[ROLE] ~= ROLE_BASE and not next(spec[CYCLES]) and (spec[EXPIRES] ~= 0 or spec[STATE] == ACTIVE) then
    bucket[EXPIRES] = spec[EXPIRES] -- the end of a base bucket moves only by refills
  end
end

-- A bucket that knows few boundaries of cycles ahead is told more, also when nothing else has changed.
local function tell_cycles(name, payer, specs)
  local cycles = {}
  for _, spec in ipairs(specs) do
    cycles[spec[ID]] = spec[CYCLES]
  end
  for _, bucket in ipairs(payer[BUCKETS]) do
    local known, told = bucket[CYCLES], cycles[bucket[ID]]
    if told and known[1] and told[1] and told[#told] > known[#known] then
      bucket[CYCLES] = told
      dirty[name] = true
    end
  end
end

-- Makes a holder what its configuration says: new assignments are filled, removed ones forfeited.
-- op: kind, holder, version, version of the limit, limit, buckets, whether to see to what has ended by now
function configure_op(op)
  local name, version, limit_version, limit, specs = op[2], op[3], op[4], op[5], op[6]
  local payer = holder(name) or { -1, {}, 0, 0, 0, 0, -1, -1, '', {} }
  holders[name] = payer
  if limit_version > payer[LIMIT_VERSION] then
    payer[LIMIT], payer[LIMIT_VERSION] = limit, limit_version
    dirty[name] = true
  end
  if version <= payer[VERSION] then
    if version == payer[VERSION] then
      tell_cycles(name, payer, specs)
    end
    return { DONE }
  end
  local present, kept, wanted = {}, {}, {}
  for _, bucket in ipairs(payer[BUCKETS]) do
    present[bucket[ID]] = bucket
  end
  for index, spec in ipairs(specs) do
    wanted[spec[ID]] = true
    local bucket = present[spec[ID]]
    if bucket then
      adjust_bucket(bucket, spec)
    else
      bucket = spec
      move(name, bucket[ID], GRANT, bucket[REMAINING])
      unblock(name, payer)
    end
    kept[index] = bucket
  end
  for _, bucket in ipairs(payer[BUCKETS]) do
    local id = bucket[ID]
    if bucket[VALIDITY] == ROLLED and wanted[string.match(id, '^[^~]*')] then
      kept[#kept + 1] = bucket
    elseif not wanted[id] and bucket[REMAINING] > 0 then
      move(name, id, REMOVAL, -bucket[REMAINING])
    end
  end
  payer[BUCKETS], payer[VERSION] = kept, version
  for counter, found in pairs(payer[COUNTERS]) do
    if found[1] < now / 1000 - COUNTERS_KEPT_S then
      payer[COUNTERS][counter] = nil
    end
  end
  dirty[name] = true
  return { DONE }
end

end

local function top_up_op(op)
  local name, amount = op[4], op[5]
  local payer = holder(name)
  if not payer then
    return { STALE }
  end
  if payer[MONEY] + amount > EXACT_MAX then
    return { FAILED, OVERFLOW }
  end
  payer[MONEY] = payer[MONEY] + amount
  unblock(name, payer)
  dirty[name] = true
  move(name, '', TOPPED_UP, amount)
  return { DONE, payer[MONEY] }
end

-- Adds to a bucket and extends the validity of all that is in it; what has ended is lost first.
-- op: kind, id, hash, holder, bucket, quantity, validity (0 without end), most that it may hold (0 without bound)
local function refill_op(op)
  local name, quantity, validity, most = op[4], op[6], op[7], op[8]
  local payer, bucket = holder(name), nil
  if not payer then
    return { STALE }
  end
  for _, each in ipairs(payer[BUCKETS]) do
    bucket = each[ID] == op[5] and each or bucket
  end
  if not bucket or next(bucket[CYCLES]) or bucket[VALIDITY] == ROLLED then
    return { FAILED, NO_SUCH_BUCKET }
  end
  local ended = bucket[EXPIRES] ~= 0 and bucket[EXPIRES] <= now
  local before = ended and 0 or bucket[REMAINING]
  if before + quantity > EXACT_MAX then
    return { FAILED, OVERFLOW }
  end
  refresh(name, payer, bucket, now)
  local forfeited = most > 0 and min(quantity, max(0, before + quantity - most)) or 0
  move(name, bucket[ID], REFILLED, quantity)
  if forfeited > 0 then
    move(name, bucket[ID], REFILLED, -forfeited)
  end
  bucket[REMAINING] = before + quantity - forfeited
  bucket[GRANTED] = max(bucket[REMAINING], 1)
  local ends = validity > 0 and now + validity or 0
  if ended then
    bucket[ACTIVATED], bucket[EXPIRES] = now, ends
  elseif bucket[EXPIRES] ~= 0 then
    bucket[EXPIRES] = ends == 0 and 0 or max(bucket[EXPIRES], ends)
  end
  bucket[STATE] = bucket[REMAINING] > 0 and ACTIVE or DEPLETED
  unblock(name, payer)
  dirty[name] = true
  return { DONE, bucket[REMAINING], bucket[EXPIRES], forfeited }
end

-- Sessions ------------------------------------------------------------------------------------------------------

local function session(id)
  local found = sessions[id]
  if found == nil then
    local blob = redis.call('GET', key('s:', id))
    found = blob and unpack_blob(blob) or false
    sessions[id] = found
  end
  return found
end

local function give_back(reservation)
  local name, amount, mode, parts = reservation[1], reservation[2], reservation[3], reservation[4]
  local payer = holder(name)
  if not payer then
    return
  end
  if mode == PREPAID then
    payer[MONEY_RESERVED] = max(0, payer[MONEY_RESERVED] - amount)
  elseif mode == POSTPAID then
    payer[USED_RESERVED] = max(0, payer[USED_RESERVED] - amount)
  end
  for _, part in ipairs(parts) do
    for _, bucket in ipairs(payer[BUCKETS]) do
      if bucket[ID] == part[1] then
        bucket[RESERVED] = max(0, bucket[RESERVED] - part[2])
      end
    end
  end
  dirty[name] = true
end

local function give_back_service(open, service)
  local kept = {}
  for _, reservation in ipairs(open[RESERVATIONS]) do
    if service == nil or reservation[5] == service then
      give_back(reservation)
    else
      kept[#kept + 1] = reservation
    end
  end
  open[RESERVATIONS] = kept
end

-- Reserves the largest part of a volume that every step can cover.
local function reserve(open, program, endpoint, service, quantity, use)
  if program[DENY_REASON] ~= 0 then
    return 0, program[DENY_REASON], program[DENY_STEP]
  end
  if is_blocked(program, endpoint) then
    return 0, ENDPOINT_BLOCKED, 0
  end
  local granted, reason, limiting, coverages = quantity, 0, 0, nil
  repeat
    local before = granted
    coverages = {}
    for index, step in ipairs(program[STEPS]) do
      local name, payer = step_holder(step, endpoint)
      coverages[index] = cover(step, name, payer, granted, use)
      if coverages[index].uncovered > 0 then
        granted = granted - coverages[index].uncovered
        reason, limiting = coverages[index].reason, index - 1
        break
      end
    end
  until granted == before or granted == 0
  if granted == 0 then
    return 0, reason, limiting
  end
  local throttled = false
  for index, step in ipairs(program[STEPS]) do
    local name, payer = step_holder(step, endpoint)
    local coverage, parts = coverages[index], {}
    throttled = throttled or coverage.throttled
    for _, entry in ipairs(coverage.draws) do
      local bucket, owner = entry[1], owner_of[entry[1]]
      supply(owner, bucket, entry[2], use.time)
      bucket[RESERVED] = bucket[RESERVED] + entry[2]
      parts[owner] = parts[owner] or {}
      parts[owner][#parts[owner] + 1] = { bucket[ID], entry[2] }
    end
    local amount = step[MODE] ~= UNLIMITED and max(0, coverage.amount) or 0
    if amount > 0 then
      if step[MODE] == PREPAID then
        payer[MONEY_RESERVED] = payer[MONEY_RESERVED] + amount
      else
        payer[USED_RESERVED] = payer[USED_RESERVED] + amount
      end
      parts[name] = parts[name] or {}
    end
    for owner, taken in pairs(parts) do
      dirty[owner] = true
      open[RESERVATIONS][#open[RESERVATIONS] + 1] = { owner, owner == name and amount or 0, step[MODE], taken, service }
    end
  end
  return granted, reason, limiting, throttled
end

local function keep_session(id, open)
  sessions[id] = open
  dirty_sessions[id] = true
end

-- Returns why a call does not fit, and whether it is the last one again.
local function misfit(open, action, sequence, hash)
  if action == CREATE then
    if not open then
      return nil
    end
    return REF_REUSED, open[SEQUENCE] == 0 and open[SESSION_HASH] == hash
  end
  if not open then
    return SESSION_NOT_FOUND
  end
  if sequence == open[SEQUENCE] then
    return OUT_OF_SEQUENCE, open[SESSION_HASH] == hash
  end
  if open[SESSION_STATE] ~= OPEN then
    return SESSION_CLOSED
  end
  if sequence ~= open[SEQUENCE] + 1 then
    return OUT_OF_SEQUENCE
  end
  return nil
end

-- op: kind, id, action, sequence, hash, endpoint, time, valid until, lines of {service, program, used, requested,
-- time of use, begins of periods}, about {endpoint, reference, network, access type}
local function session_op(op, programs, expected)
  local id, action, sequence, hash, endpoint = op[2], op[3], op[4], op[5], op[6]
  local open = session(id)
  local failure, again = misfit(open, action, sequence, hash)
  if again then
    return { REPEATED, open[SESSION_ANSWER], open[SESSION_STATE], open[VALID_UNTIL] }
  elseif failure then
    return { FAILED, failure, open and open[SEQUENCE] or 0 }
  end
  for _, line in ipairs(op[9]) do
    if not fresh(programs[line[2]], endpoint, expected) then
      return { STALE }
    end
  end
  open = open or { 0, OPEN, '', {}, 0, {}, {}, {} }
  if action == RELEASE then
    give_back_service(open, nil)
  end
  for _, line in ipairs(op[9]) do
    give_back_service(open, line[1])
  end
  local answers = {}
  for index, line in ipairs(op[9]) do
    local program, used, requested = programs[line[2]], line[3], line[4]
    local use = { endpoint = endpoint, time = line[5], periods = line[6], cost = 0, session = open[COUNTS] }
    local charged = used > 0 and charge(program, endpoint, used, use, OFFLINE) or false
    local granted, reason, limiting, throttled = 0, 0, 0, false
    if action ~= RELEASE and requested > 0 then
      granted, reason, limiting, throttled = reserve(open, program, endpoint, line[1], requested, use)
    end
    answers[index] = { line[1], granted, reason, limiting, charged, throttled or (charged and charged[4]) or false }
  end
  open[SEQUENCE], open[SESSION_HASH], open[SESSION_ANSWER] = sequence, hash, answers
  open[VALID_UNTIL], open[SESSION_STATE] = op[8], action == RELEASE and RELEASED or OPEN
  open[ABOUT] = op[10]
  keep_session(id, open)
  return { DONE, answers, open[SESSION_STATE], open[VALID_UNTIL] }
end

-- Sessions whose validity has passed give their reservations back.
local function sweep()
  local due = redis.call('ZRANGEBYSCORE', key('x', ''), '-inf', now, 'LIMIT', 0, SWEEP_MAX)
  for _, id in ipairs(due) do
    local open = session(id)
    if open and open[SESSION_STATE] == OPEN and open[VALID_UNTIL] <= now then
      give_back_service(open, nil)
      open[SESSION_STATE] = SESSION_EXPIRED
      keep_session(id, open)
    end
  end
  return due
end

-- The call ------------------------------------------------------------------------------------------------------

local function load_holders(expected)
  local names, keys = {}, {}
  for name in pairs(expected) do
    names[#names + 1] = name
    keys[#keys + 1] = key('h:', name)
  end
  if keys[1] then
    for index, blob in ipairs(redis.call('MGET', unpack(keys))) do
      holders[names[index]] = blob and unpack_blob(blob) or false
    end
  end
end

-- Ids that were answered are remembered in a hash for each stretch of time; the last two stretches are looked at.
local function load_answered(ops, stretch)
  local ids, position = {}, {}
  for index, op in ipairs(ops) do
    if op[1] == CHARGE or op[1] == TOP_UP or op[1] == REFILL then
      ids[#ids + 1] = op[2]
      position[#position + 1] = index
    end
  end
  local answered = {}
  if ids[1] then
    for age = 0, 1 do
      local found = redis.call('HMGET', key('d:', string.format('%d', stretch - age)), unpack(ids))
      for index, value in ipairs(found) do
        answered[position[index]] = answered[position[index]] or value
      end
    end
  end
  return answered
end

-- A duplicate id holds 8 bytes of the body's hash, then `sequence:index` of its answer.
local function earlier_answer(value, hash)
  if string.sub(value, 1, 8) ~= hash then
    return { REUSED }
  end
  local sequence, index = string.match(string.sub(value, 9), '^(%d+):(%d+)$')
  return { REPEATED, tonumber(sequence), tonumber(index) }
end

local function decide_op(op, programs, expected)
  if op[1] == CHARGE then
    return charge_op(op, programs, expected)
  elseif op[1] == CONFIGURE then
    local outcome = configure_op(op)
    if op[7] then
      refresh_all(op[2], holder(op[2]), nil, now)
    end
    return outcome
  elseif op[1] == TOP_UP then
    return top_up_op(op)
  elseif op[1] == REFILL then
    return refill_op(op)
  end
  return session_op(op, programs, expected)
end

local function write_state(stretch, stretch_ms, answered_now)
  local images, pairs_to_set = {}, {}
  for name in pairs(dirty) do
    local blob = pack(holders[name])
    images[#images + 1], images[#images + 2] = 'h:' .. name, blob
    pairs_to_set[#pairs_to_set + 1], pairs_to_set[#pairs_to_set + 2] = key('h:', name), blob
  end
  for id in pairs(dirty_sessions) do
    local blob = pack(sessions[id])
    images[#images + 1], images[#images + 2] = 's:' .. id, blob
    if sessions[id][SESSION_STATE] == OPEN then
      redis.call('SET', key('s:', id), blob)
      redis.call('ZADD', key('x', ''), sessions[id][VALID_UNTIL], id)
    else
      redis.call('SET', key('s:', id), blob, 'PX', CLOSED_SESSION_KEPT_MS)
      redis.call('ZREM', key('x', ''), id)
    end
  end
  if pairs_to_set[1] then
    redis.call('MSET', unpack(pairs_to_set))
  end
  if answered_now[1] then
    local name = key('d:', string.format('%d', stretch))
    redis.call('HSET', name, unpack(answered_now))
    redis.call('PEXPIRE', name, 2 * stretch_ms)
  end
  return images
end

local function changes_something(op, outcome)
  return outcome[1] == CHARGED or outcome[1] == REFUSED or (outcome[1] == DONE and op[1] ~= CONFIGURE)
end

-- ARGV: header {epoch, least sequence, now, how long a stretch of answered ids is, journalled up to, expected versions, operations}, programs,
-- records (kept for the journal as they are). Answer: {sequence, outcomes, images} or {refusal word, ...}.
local function decide(keys, args)
  pack, unpack_blob = cmsgpack.pack, cmsgpack.unpack
  floor, ceil, min, max = math.floor, math.ceil, math.min, math.max
  local header = unpack_blob(args[1])
  local epoch, least, journalled, expected, ops = header[1], header[2], header[5], header[6], header[7]
  cell, now = string.sub(keys[1], 1, -2), header[3]
  local meta = redis.call('HMGET', keys[1], 'epoch', 'sequence')
  if meta[1] ~= tostring(epoch) then
    return { 'EPOCH', meta[1] or '' }
  end
  local sequence = tonumber(meta[2])
  if sequence < least then
    return { 'BEHIND', meta[2] }
  end
  local programs = {}
  for index, blob in ipairs(unpack_blob(args[2])) do
    programs[index] = unpack_blob(blob)
  end
  holders, dirty, sessions, dirty_sessions, moves, notices, op_index, owner_of = {}, {}, {}, {}, {}, {}, 0, {}
  load_holders(expected)
  local stretch = floor(now / header[4])
  local answered, answered_now, seen = load_answered(ops, stretch), {}, {}
  local due = sweep()
  local outcomes, decided = {}, #due > 0
  sequence = sequence + 1
  local place = string.format('%d:', sequence)
  for index, op in ipairs(ops) do
    op_index = index
    local outcome
    local earlier = op[1] ~= SESSION and op[1] ~= CONFIGURE and (answered[index] or seen[op[2]])
    if earlier then
      outcome = earlier_answer(earlier, op[3])
    else
      outcome = decide_op(op, programs, expected)
      if changes_something(op, outcome) then
        decided = true
        if op[1] == CHARGE or op[1] == TOP_UP or op[1] == REFILL then
          local value = op[3] .. place .. index
          answered_now[#answered_now + 1], answered_now[#answered_now + 2] = op[2], value
          seen[op[2]] = value
        end
      end
    end
    outcomes[index] = outcome
  end
  if not (decided or next(dirty)) then
    return { sequence - 1, pack({ outcomes, moves, notices }), '' }
  end
  local images = pack(write_state(stretch, header[4], answered_now))
  for _, id in ipairs(due) do
    redis.call('ZREM', key('x', ''), id)
  end
  local outcome_blob = pack({ outcomes, moves, notices })
  redis.call('HSET', keys[1], 'sequence', string.format('%d', sequence))
  redis.call('XADD', key('j', ''), 'MINID', string.format('%d-0', journalled), string.format('%d-0', sequence),
    't', string.format('%d', now), 'r', args[3], 'o', outcome_blob, 'i', images)
  return { sequence, outcome_blob, images }
end

redis.register_function('decide', decide)
