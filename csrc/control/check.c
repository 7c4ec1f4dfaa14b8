/*
 * check.c: whether a row's fields are what they may be. In: a field; out: 0, or a code and what is wrong
 * with it told. Called by rows before they write.
 */
#include "control/changes.h"

int check_family(struct change *change, const char *field, unsigned family)
{
    return family == DP_IPV4 || family == DP_IPV6
               ? DP_OK
               : tell(&change->tell, DP_EINVAL, "%s %u is neither 4 nor 6", field, family);
}

int check_address(struct change *change, const char *field, unsigned family, const uint8_t *address)
{
    if (family == DP_IPV4 && (load32(address + 4) | load64(address + 8)))
        return tell(&change->tell, DP_EINVAL, "%s: bytes behind an IPv4 address", field);
    return DP_OK;
}

int check_unicast(struct change *change, const char *field, unsigned family, const uint8_t *address)
{
    int code = check_address(change, field, family, address);
    if (code == DP_OK && !is_host(family, address))
        return tell(&change->tell, DP_EINVAL, "%s %s is no unicast address", field,
                    tell_address(family, address).s);
    return code;
}

int check_prefix(struct change *change, unsigned family, const uint8_t *prefix, unsigned len)
{
    int code = check_family(change, "family", family);
    if (code)
        return code;
    if (len > addr_bits(family))
        return tell(&change->tell, DP_EINVAL, "prefix_len %u is over %u", len, addr_bits(family));
    for (unsigned i = len; i < 128; i++)
        if (prefix[i / 8] & 0x80 >> i % 8)
            return tell(&change->tell, DP_EINVAL, "prefix %s/%u has bits behind its length",
                        tell_address(family, prefix).s, len);
    return DP_OK;
}

int check_zero(struct change *change, const uint8_t *pad, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (pad[i])
            return tell(&change->tell, DP_EINVAL, "padding is not zero");
    return DP_OK;
}

int check_mac(struct change *change, const uint8_t *mac)
{
    return mac_is_group(mac) ? tell(&change->tell, DP_EINVAL, "mac is a group address") : DP_OK;
}

int check_vsid(struct change *change, uint32_t vsid)
{
    if (vsid < VSID_MIN || vsid > VSID_MAX)
        return tell(&change->tell, DP_EINVAL, "vsid %u is not in %u..%u", vsid, VSID_MIN, VSID_MAX);
    return DP_OK;
}

int check_subnet(struct change *change, uint32_t vsid, uint32_t *subnet)
{
    int code = check_vsid(change, vsid);
    if (code)
        return code;
    *subnet = change_subnet(change, vsid);
    return *subnet == INDEX_NONE ? tell(&change->tell, DP_ENOENT, "no subnet has vsid %u", vsid) : DP_OK;
}

int check_ca(struct change *change, uint32_t vsid, unsigned family, const uint8_t *ca)
{
    uint32_t subnet;
    int code = check_family(change, "family", family);
    if (code || (code = check_address(change, "ca", family, ca)))
        return code;
    return check_subnet(change, vsid, &subnet);
}

int check_port(struct change *change, uint32_t port)
{
    if (port == DP_UNDERLAY || port >= DP_MAX_PORTS)
        return tell(&change->tell, DP_EINVAL, "port %u is not in 1..%u", port, DP_MAX_PORTS - 1);
    return DP_OK;
}
