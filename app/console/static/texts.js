// Every text of the console, in both languages, under the same keys.
import { browserLanguage, keepLanguage, keptLanguage } from "./language.js";

export const texts = {
  en: {
    otherLanguage: "中文",
    models: "Models",
    more: "More",
    api: "API",
    try: "Try",
    lead: "Give a model a picture: you see its classes, what it saw of the picture, and the request as a program.",
    deployName: "Deploy name",
    topNum: "Classes to show (top_num)",
    token: "Access token",
    tokenNeeded: "This server asks for an access token: enter it above.",
    drop: "Drop pictures here, or paste one",
    choose: "Choose pictures",
    limits: "jpg, png or bmp, sides of 15 to 4096 px, files of at most 3 MiB",
    busy: "Asking about {file} ({index} of {count}) …",
    done: "Done: {right} classified, {failed} with an error.",
    original: "Your picture",
    seen: "As the model saw it",
    notShown: "The browser cannot show this file.",
    inTheLog: "In the server's log:",
    classes: "Classes",
    stages: "Milliseconds by stage",
    total: "in all, seen here",
    request: "The same request as a program",
    client: "Programming language",
    howToRun: "Save it as {file} beside {picture}, then run: {run}",
    copy: "Copy",
    copied: "Copied.",
    meaning: "What it means",
    detail: "What was wrong",
    todo: "What to do",
    unreachable: "The server does not answer.",
    unreachableTodo: "See whether it still runs: /healthz answers when it does.",
    tooBig: "The file has {size} MiB and was not sent: 4 MiB of base64, which is a file of 3 MiB, is the most.",
    none: "No model can be called. /readyz says why.",
    broken: "Cannot be served, /readyz says why: {names}",
    version: "Version",
    address: "Address",
    package: "What is served",
    filter: "Find a label",
    engine: "Engine",
    digest: "Digest of the package",
    input: "Input",
    output: "Output",
    golden: "Golden check",
    noGolden: "The package has no golden samples.",
    goldenKept: "✓ passed: {samples} samples, scores at most {difference} apart; {tolerance} is allowed",
    preprocess: "Preprocessing",
    labels: "Labels ({count})",
    tryIt: "Try it",
    stageNames: {},
    errors: {
      336000: ["The server failed unexpectedly.", "Look the log_id up in the server's log (classifyd logs LOG_ID): the traceback is there. Other requests are not affected."],
      336001: ["A parameter has the wrong type or value, or no model is deployed under this name.", "Compare the request with /docs; top_num must be a whole number from 1 on. GET /readyz lists the deploy names."],
      336002: ["The body is not JSON.", "Send a JSON object such as {\"image\": \"…\"}, and look at how the body is put together and encoded (UTF-8)."],
      336003: ["The image is not plain base64.", "Encode the file's bytes as standard base64, without a data: header, without URL encoding, with its padding."],
      336004: ["The image is too large or too small.", "At most 4 MiB of base64 (a file of 3 MiB), shortest side from 15 px, longest side up to 4096 px: scale the picture before sending."],
      336005: ["The image cannot be decoded.", "Send a complete jpg, png or bmp. Convert other formats first, and see that the file was not cut short."],
      336006: ["A required parameter is missing.", "Put the image into the field image."],
      336100: ["The model is not available for the moment: loading, overloaded or shutting down.", "Try again after the seconds in Retry-After. If it stays so, /readyz names the reason."],
      337000: ["The access token or the server's licence does not allow this call.", "Enter a valid access token above; the detail says whether it is the token or the licence. An operator makes one with classifyd token add NAME."],
    },
  },
  zh: {
    otherLanguage: "English",
    models: "模型",
    more: "更多",
    api: "接口文档",
    try: "试用",
    lead: "给模型一张图片：这里会显示分类结果、模型实际看到的图，以及对应的请求程序。",
    deployName: "部署名称",
    topNum: "返回的类别数（top_num）",
    token: "访问令牌",
    tokenNeeded: "服务需要访问令牌，请在上方填写。",
    drop: "把图片拖到这里，或直接粘贴",
    choose: "选择图片",
    limits: "jpg、png 或 bmp，边长 15 到 4096 px，文件不超过 3 MiB",
    busy: "正在识别 {file}（第 {index} 张，共 {count} 张）……",
    done: "完成：{right} 张得到结果，{failed} 张出错。",
    original: "原图",
    seen: "模型看到的图",
    notShown: "浏览器无法显示此文件。",
    inTheLog: "在服务日志中查看：",
    classes: "类别",
    stages: "各阶段耗时（毫秒）",
    total: "总计（本页测得）",
    request: "同一请求的程序",
    client: "编程语言",
    howToRun: "保存为 {file}，与 {picture} 放在同一目录，然后运行：{run}",
    copy: "复制",
    copied: "已复制。",
    meaning: "含义",
    detail: "具体原因",
    todo: "处理办法",
    unreachable: "服务没有响应。",
    unreachableTodo: "请确认服务仍在运行：正常时 /healthz 会有应答。",
    tooBig: "文件有 {size} MiB，没有发送：base64 最多 4 MiB，即文件最多 3 MiB。",
    none: "没有可以调用的模型，原因见 /readyz。",
    broken: "无法提供服务，原因见 /readyz：{names}",
    version: "版本",
    address: "地址",
    package: "正在提供的模型",
    filter: "查找标签",
    engine: "推理引擎",
    digest: "模型包摘要",
    input: "输入",
    output: "输出",
    golden: "黄金样本校验",
    noGolden: "模型包没有黄金样本。",
    goldenKept: "✓ 通过：{samples} 个样本，分数最多相差 {difference}，允许 {tolerance}",
    preprocess: "预处理",
    labels: "标签（{count} 个）",
    tryIt: "试一试",
    stageNames: { read: "读取请求", parse: "解析 JSON", base64: "base64 解码", guard: "检查文件", decode: "图片解码", preprocess: "预处理", queue: "排队", infer: "推理" },
    errors: {
      336000: ["服务内部错误。", "用 log_id 查服务日志（classifyd logs LOG_ID），其中有完整的错误栈。其他请求不受影响。"],
      336001: ["参数的类型或取值不对，或没有以此名称部署的模型。", "请对照 /docs 检查请求；top_num 必须是不小于 1 的整数。GET /readyz 列出所有部署名称。"],
      336002: ["请求体不是 JSON。", "请发送形如 {\"image\": \"…\"} 的 JSON 对象，并检查请求体的拼接方式和编码（UTF-8）。"],
      336003: ["图片不是标准 base64。", "请对文件字节做标准 base64 编码：不带 data: 头，不做 URL 编码，保留末尾的填充。"],
      336004: ["图片过大或过小。", "base64 最多 4 MiB（文件约 3 MiB），最短边不小于 15 px，最长边不大于 4096 px，请先缩放再发送。"],
      336005: ["图片无法解码。", "请发送完整的 jpg、png 或 bmp；其他格式先转换，并检查文件是否被截断。"],
      336006: ["缺少必要参数。", "请把图片放在 image 字段中。"],
      336100: ["模型暂时不可用：正在加载、过载或正在停止。", "请在 Retry-After 所给的秒数后重试；若持续如此，/readyz 会说明原因。"],
      337000: ["访问令牌或服务的授权不允许这次调用。", "请在上方填入有效的访问令牌；具体原因会说明是令牌还是授权的问题。管理员用 classifyd token add NAME 生成令牌。"],
    },
  },
};

export let language = keptLanguage() || browserLanguage();

export function switchLanguage() {
  language = language === "zh" ? "en" : "zh";
  keepLanguage(language);
}

export function text(key, values = {}) {
  return texts[language][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

export function errorText(code) {
  return texts[language].errors[code] || ["", ""];
}

// A stage as Server-Timing names it; in Chinese with its meaning before.
export function stageText(stage) {
  const meaning = texts[language].stageNames[stage];
  return meaning ? `${meaning} ${stage}` : stage;
}
