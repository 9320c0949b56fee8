"""For each law a fault that breaks it: the module, a text that stands in it once, and what stands there instead."""

FAULTS: dict[str, tuple[str, str, str]] = {
    # sequence numbers and queues
    "sent_in_order": ("output", "sk.snd_nxt = skb.end_seq", "sk.snd_nxt = add(skb.end_seq, 1)"),
    "rtx_queue_starts_at_una": ("ack", "        tcp_rtx_queue_unlink_and_free(skb, sk)\n", "        break\n"),
    "rtx_queue_ends_at_nxt": ("output", "sk.snd_nxt = skb.end_seq", "sk.snd_nxt = skb.seq"),
    "rtx_queue_has_no_gaps": (
        "retransmit",
        "    skb.end_seq = next_skb.end_seq\n    skb.tcp_flags |=",
        "    skb.tcp_flags |=",
    ),
    "write_queue_starts_at_nxt": (
        "retransmit",
        "        sk.sk_write_queue.insert_after(skb, buff)\n    else:",
        "        sk.sk_write_queue.append(buff)\n    else:",
    ),
    "write_queue_ends_at_write_seq": ("output", "        sk.write_seq = add(sk.write_seq, 1)\n", ""),
    "write_queue_has_no_gaps": ("output", "    next_skb.seq = add(next_skb.seq, nlen)\n", ""),
    "nothing_out_is_nothing_queued": (
        "ack",
        "        sk.packets_out -= acked_pcount\n",
        "        sk.packets_out -= 1\n",
    ),
    "ofo_is_beyond_rcv_nxt": (
        "data",
        "while skb is not None and not after(skb.seq, sk.rcv_nxt):",
        "while skb is not None and before(skb.seq, sk.rcv_nxt):",
    ),
    "ofo_is_sorted": ("data", "    if before(seq, last.end_seq):\n", "    if False:\n"),
    "ooo_last_skb_is_the_last": (
        "data",
        "        queued = _ofo_insert(sk, skb, last)\n        sk.ooo_last_skb = ofo.tail\n",
        "        queued = _ofo_insert(sk, skb, last)\n",
    ),
    "receive_queue_ends_at_rcv_nxt": (
        "data",
        "    sk.rcv_nxt = skb.end_seq\n    if not eaten:",
        "    sk.rcv_nxt = add(skb.end_seq, 1)\n    if not eaten:",
    ),
    "receive_queue_has_no_gaps": (
        "data",
        "while skb is not None and not after(skb.seq, sk.rcv_nxt):",
        "while skb is not None:",
    ),
    "read_in_order": (
        "recvmsg",
        "                seq = (seq + used) & M32\n",
        "                seq = (seq + used + 1) & M32\n",
    ),
    "acknowledged_in_order": (
        "transmit",
        "    sk.rcv_wnd = new_win\n    sk.rcv_wup = sk.rcv_nxt\n",
        "    sk.rcv_wnd = new_win\n    sk.rcv_wup = add(sk.rcv_nxt, 1)\n",
    ),
    "sacks_are_beyond_rcv_nxt": (
        "data",
        "        if not before(sk.rcv_nxt, blocks[this_sack].start_seq):",
        "        if False:",
    ),
    "sacks_are_in_the_ofo_queue": (
        "data",
        "        sk.rx_opt.num_sacks = 0\n        return\n    blocks",
        "        return\n    blocks",
    ),
    # the scoreboard
    "packets_out_counts_the_queue": (
        "retransmit",
        "            tcp_adjust_pcount(sk, skb, diff)\n    if tcp_queue ==",
        "            pass\n    if tcp_queue ==",
    ),
    "sacked_out_counts_the_sacked": ("sack", "        sk.sacked_out += pcount\n", "        sk.sacked_out += 1\n"),
    "lost_out_counts_the_lost": (
        "sack",
        "                sacked &= ~TCPCB_LOST\n                sk.lost_out -= pcount\n",
        "                sacked &= ~TCPCB_LOST\n",
    ),
    "retrans_out_counts_the_retransmitted": (
        "retransmit",
        "        sk.retrans_out += skb.gso_segs\n",
        "        pass\n",
    ),
    "left_out_is_out": ("sack", "    if sk.sacked_out + holes > sk.packets_out:", "    if False:"),
    "sacked_is_not_lost": ("rack", "    if sacked & TCPCB_SACKED_ACKED:\n        return\n", ""),
    "open_has_nothing_lost": (
        "recovery",
        "        tcp_enter_recovery(sk, ece_ack)\n        fast_rexmit = True\n",
        "        fast_rexmit = True\n",
    ),
    "tsorted_is_what_isnt_sacked": (
        "sack",
        "                sk.tsorted_sent_queue.unlink(skb)\n",
        "                pass\n",
    ),
    "highest_sack_is_queued": ("ack", "        if skb is sk.highest_sack:\n            sk.highest_sack = behind\n", ""),
    "undo_needs_a_marker": (
        "undo",
        "    sk.undo_retrans = sk.retrans_out\n",
        "    sk.undo_retrans = sk.packets_out + 50\n",
    ),
    "window_of_one_at_least": ("recovery", "    sk.snd_cwnd = t.snd_cwnd\n", "    sk.snd_cwnd = t.snd_cwnd // 4\n"),
    "threshold_of_two_at_least": (
        "recovery",
        "    sk.snd_ssthresh = sk.icsk_ca_ops.ssthresh(sk)\n    tcp_ecn",
        "    sk.snd_ssthresh = sk.snd_cwnd >> 3\n    tcp_ecn",
    ),
    "recovery_has_a_goal": (
        "recovery",
        "    sk.high_seq = sk.snd_nxt\n    sk.tlp_high_seq = 0\n    sk.snd_cwnd_cnt",
        "    sk.high_seq = add(sk.snd_nxt, 1)\n    sk.tlp_high_seq = 0\n    sk.snd_cwnd_cnt",
    ),
    # timers
    "what_is_out_is_watched": (
        "output",
        "    if not prior_packets or sk.icsk_pending == ICSK_TIME_LOSS_PROBE:\n        ack.tcp_rearm_rto(sk)\n",
        "",
    ),
    "what_waits_is_probed_for": ("output", "    if not sk.packets_out and not sk.icsk_pending:\n", "    if False:\n"),
    "a_closed_socket_has_no_timer": ("net", "    sk.icsk_retransmit_timer.stop()\n", ""),
    "a_delayed_ack_has_a_deadline": (
        "transmit",
        "    delay = delack.ack_delay(icsk_ack.ato, inet_csk_in_pingpong_mode(sk), pushed, srtt, longest, net.hz)\n",
        "    delay = net.hz // 2\n",
    ),
    "an_owed_ack_is_not_forgotten": (
        "data",
        "        transmit.tcp_send_delayed_ack(sk)\n        return\n    _compress",
        "        return\n    _compress",
    ),
    "nagle_lets_go": ("output", "not tcp_nagle_check(skb.len < cur_mss, sk, nonagle)", "not skb.len < cur_mss"),
    "the_timeout_is_bounded": (
        "rttm",
        "    sk.icsk_rto = min(rtt.rto_of(sk.srtt_us, sk.rttvar_us, p), rtt.tcp_rto_max(p))",
        "    sk.icsk_rto = min(rtt.rto_of(sk.srtt_us, 0, p), rtt.tcp_rto_max(p))",
    ),
    "the_ack_timeout_is_bounded": (
        "timer",
        "        ack.ato = delack.ato_after_expiry(ack.ato, pingpong, longest, sk.net.hz)\n",
        "        ack.ato = sk.net.hz\n",
    ),
    "nothing_negative_is_in_flight": (
        "sack",
        "        sk.sacked_out += pcount\n",
        "        sk.sacked_out += 2 * pcount\n",
    ),
    "the_urgent_pointer_is_in_the_stream": ("ack", "        sk.snd_up = snd_una\n", "        pass\n"),
    "segments_have_a_size": (
        "mtu",
        "    sk.mss_cache = mss_now\n    return mss_now\n",
        "    sk.mss_cache = mss_now + 20\n    return mss_now\n",
    ),
    "a_repeated_skb_is_full_or_whole": (
        "retransmit",
        "    skb.gso_segs = -(-skb.len // mss_now)\n",
        "    skb.gso_segs = skb.len // mss_now\n",
    ),
    "no_timer_is_lost": (
        "net",
        "        heapq.heappush(self._heap, (when, timer.token, timer))\n",
        "        heapq.heappush(self._heap, (when, timer.token - (self._tokens % 7 == 0), timer))\n",
    ),
    # memory and the state
    "wmem_queued_is_what_is_queued": (
        "tcp_h",
        "    sk.sk_wmem_queued -= skb.truesize\n",
        "    sk.sk_wmem_queued -= skb.len\n",
    ),
    "rmem_alloc_is_what_is_queued": (
        "recvmsg",
        "    sk.sk_rmem_alloc -= skb.truesize\n",
        "    sk.sk_rmem_alloc -= skb.len\n",
    ),
    "rcvbuf_is_kept": ("data", "    if sk.sk_rmem_alloc > sk.sk_rcvbuf and prune", "    if False and prune"),
    "window_within_the_clamp": (
        "transmit",
        "    sk.rcv_wnd = new_win\n    sk.rcv_wup = sk.rcv_nxt\n",
        "    sk.rcv_wnd = new_win << 8\n    sk.rcv_wup = sk.rcv_nxt\n",
    ),
    "fin_shuts_receiving": ("rcv", "    sk.sk_shutdown |= RCV_SHUTDOWN\n", ""),
    "closing_shuts_sending": ("inet", "        sk.sk_shutdown |= how\n", ""),
    "fin_wait2_has_nothing_out": (
        "rcvstate",
        "    if sk.snd_una != sk.write_seq:\n        return None\n    inet",
        "    inet",
    ),
    "accept_queue_is_counted": ("listen", "    sk.sk_ack_backlog -= 1\n", ""),
    "young_requests_are_requests": (
        "listen",
        "        sk.young -= 1\n    sk.qlen -= 1\n",
        "        pass\n    sk.qlen -= 1\n",
    ),
    "established_are_counted": ("inet", '            net.count("TcpCurrEstab", -1)\n', "            pass\n"),
    "requests_and_time_waits_have_timers": (
        "hashtables",
        "        tw.tw_timer.mod(net.jiffies + timeo)\n        net.tw_count",
        "        net.tw_count",
    ),
    "the_hash_has_no_closed_sockets": ("inet", "            hashtables.inet_unhash(sk)\n", ""),
    # over time
    "acknowledged_bytes_stay_so": ("ack", "    if before(ack, prior_snd_una):\n", "    if False:\n"),
    "what_was_sent_was_sent": (
        "recovery",
        "    ca.tcp_set_ca_state(sk, CA.Loss)\n    sk.high_seq = sk.snd_nxt\n",
        "    ca.tcp_set_ca_state(sk, CA.Loss)\n    sk.high_seq = sk.snd_nxt = sk.snd_una\n",
    ),
    "received_bytes_stay_so": ("data", "    sk.rcv_nxt = seq\n", "    sk.rcv_nxt = add(seq, -3000)\n"),
    "read_bytes_stay_so": (
        "recvmsg",
        "                    sk.copied_seq = seq\n                copied += used\n",
        "                    sk.copied_seq = (seq - used - 1) & M32\n                copied += used\n",
    ),
    "sums_only_grow": ("retransmit", "    sk.bytes_retrans += skb.len\n", "    sk.bytes_retrans = skb.len\n"),
    "acked_bytes_are_counted": (
        "ack",
        "    sk.bytes_acked += (ack - sk.snd_una) & M32\n",
        "    sk.bytes_acked += sk.mss_cache\n",
    ),
    "received_bytes_are_counted": ("data", "    sk.bytes_received += (seq - sk.rcv_nxt) & M32\n", ""),
    "states_follow_the_diagram": (
        "inet",
        "    St.CLOSE_WAIT: (St.LAST_ACK, True),\n",
        "    St.CLOSE_WAIT: (St.FIN_WAIT1, True),\n",
    ),
    "the_promised_edge_is_kept": ("transmit", "    if new_win < cur_win and (", "    if False and ("),
    "counters_never_fall": (
        "ack",
        '            sk.net.count("TcpExtTCPPureAcks")\n',
        '            sk.net.count("TcpExtTCPPureAcks", 2 - sk.snd_una % 4)\n',
    ),
    # on the wire
    "acks_never_go_back": (
        "transmit",
        "    __tcp_send_ack(sk, sk.rcv_nxt)\n",
        "    __tcp_send_ack(sk, add(sk.rcv_nxt, -1))\n",
    ),
    "the_right_edge_never_shrinks": ("transmit", "    if new_win < cur_win and (", "    if False and ("),
    "nothing_beyond_the_window": (
        "output",
        "    return not after(end_seq, tcp_wnd_end(sk))\n",
        "    return not after(skb.seq, tcp_wnd_end(sk))\n",
    ),
    "acknowledges_what_arrived": (
        "data",
        "while skb is not None and not after(skb.seq, sk.rcv_nxt):",
        "while skb is not None:",
    ),
    "nothing_acknowledged_goes_again": ("ack", "    sk.snd_una = ack\n", "    sk.snd_una = (ack - 1) & M32\n"),
    "segments_fit_the_peers_mss": (
        "mtu",
        "    return mss_now - (header_len - sk.tcp_header_len)\n",
        "    return mss_now\n",
    ),
    "options_as_agreed": (
        "options",
        "    if rx_opt.tstamp_ok:\n        size += TCPOLEN_TSTAMP_ALIGNED\n        if opts",
        "    if True:\n        size += TCPOLEN_TSTAMP_ALIGNED\n        if opts",
    ),
    "timestamps_never_go_back": (
        "options",
        "(tcp_skb_timestamp_ts(sk.tcp_usec_ts, skb) + sk.tsoffset) & M32 if skb is not None",
        "(sk.rtt_seq + sk.tsoffset) & M32 if skb is not None",
    ),
    "echoes_what_arrived": (
        "options",
        "            opts.tsecr = rx_opt.ts_recent\n",
        "            opts.tsecr = (rx_opt.ts_recent + 1) & M32\n",
    ),
    "sacks_what_arrived": ("data", "    first.end_seq = end_seq\n", "    first.end_seq = add(end_seq, 1)\n"),
    "sacks_beyond_the_ack": (
        "data",
        "        if not before(sk.rcv_nxt, blocks[this_sack].start_seq):",
        "        if False:",
    ),
    "a_fin_is_the_last": (
        "retransmit",
        "    skb.tcp_flags = flags & ~(FIN | PSH)\n    buff",
        "    skb.tcp_flags = flags\n    buff",
    ),
    "an_owed_ack_is_sent_in_time": (
        "transmit",
        "    sk_reset_timer(sk, sk.icsk_delack_timer, icsk_ack.timeout)\n",
        "    sk_reset_timer(sk, sk.icsk_delack_timer, icsk_ack.timeout + net.hz)\n",
    ),
    # what two ends agree on, and the end of a run
    "no_end_is_ahead": (
        "data",
        "    sk.rcv_nxt = skb.end_seq\n    if not eaten:",
        "    sk.rcv_nxt = add(skb.end_seq, 1)\n    if not eaten:",
    ),
    "every_byte_arrives_once": (
        "recvmsg",
        "                copied += used\n",
        "                copied += max(used - 1, 1)\n",
    ),
    "both_ends_close": (
        "rcvstate",
        "    elif state == St.LAST_ACK and sk.snd_una == sk.write_seq:\n",
        "    elif False:\n",
    ),
    "segments_that_left_are_counted": (
        "transmit",
        '        net.count("TcpOutSegs", skb.gso_segs)\n',
        '        net.count("TcpOutSegs")\n',
    ),
    "segments_that_arrived_are_counted": (
        "ipv4",
        '    net.count("TcpInSegs")\n',
        '    net.count("TcpInSegs", 0 if packet.bad_csum else 1)\n',
    ),
    "damage_is_counted": ("ipv4", '        net.count("TcpInCsumErrors")\n', ""),
    "bytes_are_counted_at_both_ends": (
        "data",
        "    sk.bytes_received += (skb.end_seq - sk.rcv_nxt) & M32\n",
        "    sk.bytes_received += skb.len\n",
    ),
    "data_segments_are_counted": (
        "transmit",
        "        sk.data_segs_out += skb.gso_segs\n",
        "        sk.data_segs_out += 1\n",
    ),
    "repetitions_are_counted": ("retransmit", "    sk.bytes_retrans += skb.len\n", ""),
    "deliveries_are_counted": (
        "ack",
        '        sk.net.count("TcpExtTCPDelivered", delivered)\n',
        '        sk.net.count("TcpExtTCPDelivered")\n',
    ),
}
