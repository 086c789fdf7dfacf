"use strict";
// Every word of the page in English and Chinese; what is missing in one shows in the other.

const WORDS = {
  en: {
    running: "running", starting: "starting", finished: "finished", crashed: "crashed", stopped: "stopped", dead: "dead", stalled: "stalled",
    degraded: "some ranks are dead", empty: "no events yet", unknown: "no heartbeats", silent: "no heartbeat",
    since: "since", ranks: "ranks", rank: "rank", node: "node", nodes: "nodes", host: "host", step: "step", of: "of", live: "live", lost: "no connection since",
    still: "a still picture of", updated: "updated", loss: "Loss", validation: "validation", tokens_per_second: "Throughput", tokensUnit: "tokens/s, all ranks", mfu: "MFU", hfu: "HFU",
    grad_norm: "Gradient norm", learning_rate: "Learning rate", seconds: "Time a step", perStep: "seconds a step", phases: "Phases over the run", timeline: "The last steps, phase by phase",
    memory: "Memory by rank", memoryCurve: "Memory over the run", memoryPeak: "peak of the GPU memory allocated", memoryRss: "resident memory of the process", plan: "plan", device: "device", highest: "highest rank", median: "median", lowest: "lowest rank",
    communication: "Communication by node", total: "total", exposed: "exposed (not hidden by compute)", exposedTitle: "Exposed communication", nodesTitle: "Nodes", ofStep: "of the step", slowest: "Slowest ranks", excess: "longer than the median, share of a step", even: "No rank is behind.",
    alerts: "Alerts", noAlerts: "No alerts.", table: "Ranks now", data: "Data", checkpoints: "Checkpoints", remaining: "remaining", ends: "ends", elapsed: "elapsed", epoch: "epoch",
    data_: "data", forward: "forward", backward: "backward", optimizer: "optimizer", checkpoint: "checkpoint", evaluation: "evaluation", other: "other", wait: "waiting for others",
    state: "state", phase: "phase", memoryShort: "memory", utilisation: "GPU", power: "power", temperature: "temp.", throttle: "throttled", heartbeat: "heartbeat", ago: "ago", skew: "waited", sent: "sent a step", nic: "network in / out", hostMemory: "host memory",
    tokens: "tokens", targets: "targets", fillers: "filler rows", about: "about", time: "time", kind: "kind", message: "message", none: "not measured",
    reading: "still reading older events", bad: "lines could not be read and were skipped", unfinished: "files end in half a line", sampled: "older steps are sampled, not read one by one", thinned: "older steps were thinned by the run", unreadable: "cannot be read",
    foreign_schema: "written by another version of medscroll; what it does not share is missing", no_start: "some ranks have events without a start (an older version)", clocks_apart: "clocks of the hosts are apart by", no_run: "this folder does not look like a run folder", ranks_missing: "ranks have not written anything yet",
    window: "exact at step", estimate: "between windows an estimate", group: "group", calls: "calls a step", bytes: "bytes a step", compare: "all runs", deadSince: "dead since", planOver: "over the plan", relative: "colours are relative to the highest value", stallAfter: "a stall after",
    loss_not_finite: "loss not finite", loss_zero: "loss is zero", loss_spike: "loss spike", no_progress: "no progress", memory_full: "memory nearly full", memory_growing: "memory grows", throughput_drop: "throughput down",
    communication_exposed: "exposed communication", gpu_hot: "GPU hot", gpu_throttled: "GPU throttled", gpu_ecc: "GPU memory errors", straggler: "slow rank", telemetry_lost: "telemetry lost", stall: "stall", language: "中文",
  },
  zh: {
    running: "运行中", starting: "正在启动", finished: "已完成", crashed: "已崩溃", stopped: "已停止", dead: "已失联", stalled: "停滞",
    degraded: "部分 rank 已失联", empty: "还没有事件", unknown: "没有心跳", silent: "无心跳",
    since: "自", ranks: "个 rank", rank: "rank", node: "节点", nodes: "个节点", host: "主机", step: "步", of: "/", live: "实时", lost: "连接中断，自",
    still: "静态快照，时间", updated: "更新于", loss: "损失", validation: "验证", tokens_per_second: "吞吐量", tokensUnit: "token/秒，全部 rank", mfu: "MFU", hfu: "HFU",
    grad_norm: "梯度范数", learning_rate: "学习率", seconds: "每步时间", perStep: "每步秒数", phases: "各阶段耗时", timeline: "最近几步的阶段时间线",
    memory: "各 rank 的显存", memoryCurve: "显存变化", memoryPeak: "已分配显存的峰值", memoryRss: "进程常驻内存", plan: "计划", device: "设备", highest: "最高的 rank", median: "中位数", lowest: "最低的 rank",
    communication: "各节点的通信", total: "总计", exposed: "暴露（未被计算掩盖）", exposedTitle: "未被掩盖的通信", nodesTitle: "节点", ofStep: "占每步", slowest: "最慢的 rank", excess: "比中位数多出的时间，占一步的比例", even: "没有落后的 rank。",
    alerts: "告警", noAlerts: "没有告警。", table: "各 rank 当前状态", data: "数据", checkpoints: "检查点", remaining: "剩余", ends: "预计结束", elapsed: "已用", epoch: "轮次",
    data_: "数据", forward: "前向", backward: "反向", optimizer: "优化器", checkpoint: "检查点", evaluation: "评估", other: "其他", wait: "等待其他 rank",
    state: "状态", phase: "阶段", memoryShort: "显存", utilisation: "GPU", power: "功率", temperature: "温度", throttle: "降频", heartbeat: "心跳", ago: "前", skew: "等待", sent: "每步发送", nic: "网络 收 / 发", hostMemory: "主机内存",
    tokens: "token", targets: "训练目标", fillers: "填充行", about: "约", time: "时间", kind: "类型", message: "说明", none: "未测量",
    reading: "仍在读取较早的事件", bad: "行无法读取，已跳过", unfinished: "个文件以半行结尾", sampled: "较早的步为抽样读取", thinned: "较早的步已由训练程序抽稀", unreadable: "无法读取",
    foreign_schema: "由其他版本的 medscroll 写入，不同的部分不显示", no_start: "部分 rank 的事件没有起始记录（较早的版本）", clocks_apart: "各主机的时钟相差", no_run: "此文件夹不像训练输出文件夹", ranks_missing: "个 rank 还没有写入任何内容",
    window: "精确测量于第", estimate: "窗口之间为估计值", group: "进程组", calls: "每步次数", bytes: "每步字节", compare: "全部", deadSince: "失联自", planOver: "超出计划", relative: "颜色相对于最大值", stallAfter: "判定停滞需",
    loss_not_finite: "损失非有限值", loss_zero: "损失为零", loss_spike: "损失突增", no_progress: "没有进展", memory_full: "显存将满", memory_growing: "显存持续增长", throughput_drop: "吞吐量下降",
    communication_exposed: "通信未被掩盖", gpu_hot: "GPU 过热", gpu_throttled: "GPU 降频", gpu_ecc: "GPU 显存错误", straggler: "慢 rank", telemetry_lost: "遥测丢失", stall: "停滞", language: "English",
  },
};
let language = "en";
const word = (name) => WORDS[language][name] || WORDS.en[name] || name;
const phaseWord = (name) => name === "data" ? word("data_") : word(name);

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const whole = Math.round(seconds), days = Math.floor(whole / 86400), hours = Math.floor(whole % 86400 / 3600), minutes = Math.floor(whole % 3600 / 60);
  const unit = language === "zh" ? [" 天 ", " 小时 ", " 分 ", " 秒"] : ["d ", "h ", "m ", "s"];
  if (days) return `${days}${unit[0]}${hours}${unit[1].trimEnd()}`;
  if (hours) return `${hours}${unit[1]}${minutes}${unit[2].trimEnd()}`;
  if (minutes) return `${minutes}${unit[2]}${whole % 60}${unit[3]}`;
  return `${seconds < 10 ? trim(seconds.toPrecision(2)) : whole}${unit[3]}`;
}
const moment = (time) => time ? new Date(time * 1000).toLocaleString(language === "zh" ? "zh-CN" : "en-GB", { dateStyle: "medium", timeStyle: "medium" }) : "–";
