-- The question to `jwsgate serve --dialect haproxy`, asked for each request by the action `lua.jwsgate`.
--
-- Only at its very end it sets the variable txn.jwsgate to "pass". When anything here raises, when the service is down,
-- slow or answers anything that is neither a plain yes nor a denial of its own, the variable is not set, and the rule
-- that follows in haproxy.cfg denies.

local SERVICE = os.getenv("JWSGATE_SERVICE")
local TRANSACTION = "x-global-transaction-id"
-- HAProxy asks up to four times when nothing is heard: 2 s in all.
local TIMEOUT_MS = 500

-- Every spelling that an upstream may read as the same header.
local function folded(name)
    return (name:lower():gsub("[^a-z0-9]", "-"))
end

-- What only the gate tells the upstream.
local told = { [TRANSACTION] = TRANSACTION }
for name in os.getenv("JWSGATE_SETS"):gmatch("%S+") do
    told[folded(name)] = name
end

-- What belongs to the client's body, which is not part of the question.
local left_out = { ["content-length"] = true, ["expect"] = true, ["trailer"] = true, ["transfer-encoding"] = true }

-- The only value of a header; nil when there is none, or more than one. HAProxy counts them from 0.
local function only(headers, name)
    local found, count = nil, 0
    for _, value in pairs(headers[name] or {}) do
        found, count = value, count + 1
    end
    return count == 1 and found or nil
end

-- Answers with the service's denial; raises when the answer is none.
local function deny(txn, answer)
    assert(answer.status >= 400 and answer.status <= 599 and answer.body ~= "", "no plain answer")
    local reply = txn:reply({ status = answer.status, body = answer.body })
    for _, name in ipairs({ TRANSACTION, "content-type", "cache-control", "www-authenticate" }) do
        local value = only(answer.headers, name)
        if value then
            reply:add_header(name, value)
        end
    end
    txn:done(reply)
end

core.register_action("jwsgate", { "http-req" }, function(txn)
    local headers, sent = {}, txn.http:req_get_headers()
    for name, values in pairs(sent) do
        if told[folded(name)] then
            txn.http:req_del_header(name)
        elseif not left_out[name] then
            headers[name] = {}
            for number = 0, #values do
                table.insert(headers[name], values[number])
            end
        end
    end
    -- These replace whatever the client sent under these names.
    headers["x-original-method"] = { txn.f:method() }
    headers["x-original-uri"] = { txn.f:req_ver() == "2.0" and txn.f:pathq() or txn.f:url() }
    headers["x-original-address"] = { tostring(txn.f:src()) }
    local question = { url = "http://jwsgate/", dst = SERVICE, headers = headers, timeout = TIMEOUT_MS }
    local answer = core.httpclient():get(question)
    local transaction = only(answer.headers, TRANSACTION)
    assert(transaction, "not an answer of the service")
    if answer.status ~= 200 then
        return deny(txn, answer)
    end
    for _, name in pairs(told) do
        local value = only(answer.headers, name:lower())
        if value then
            txn.http:req_set_header(name, value)
        end
    end
    txn:set_var("txn.jwsgate_transaction", transaction)
    txn:set_var("txn.jwsgate", "pass")
end)
