// The texts of the console, with the same keys in both languages.
import { browserLanguage, keepLanguage, keptLanguage } from "./language.js";

export const texts = {
  en: {
    otherLanguage: "中文",
    models: "Models",
    more: "More",
    api: "API",
    try: "Try",
    lead: "Classify an image: the page shows the classes, the image as the model sees it, and a code sample.",
    deployName: "Deploy name",
    topNum: "Classes to show (top_num)",
    token: "Access token",
    tokenNeeded: "This server requires an access token: enter it above.",
    drop: "Drop images here, or paste one",
    choose: "Choose images",
    limits: "jpg, png or bmp, sides of 15 to 4096 px, files of at most 3 MiB",
    busy: "Classifying {file} ({index} of {count}) …",
    done: "Done: {right} classified, {failed} failed.",
    original: "Your image",
    preview: "As the model sees it",
    notShown: "The browser cannot display this file.",
    inTheLog: "In the server log:",
    classes: "Classes",
    stages: "Milliseconds by stage",
    total: "total, measured in the browser",
    request: "Code sample",
    client: "Programming language",
    howToRun: "Save it as {file} beside {picture}, then run: {run}",
    copy: "Copy",
    copied: "Copied.",
    meaning: "What it means",
    detail: "Detail",
    todo: "What to do",
    unreachable: "The server does not respond.",
    unreachableTodo: "Check that it is running: /healthz responds if it is.",
    tooBig: "The file has {size} MiB and was not sent: the limit is 4 MiB of base64, which is a file of 3 MiB.",
    none: "No model is available. /readyz explains why.",
    broken: "Unavailable, /readyz explains why: {names}",
    version: "Version",
    address: "Address",
    package: "Active package",
    filter: "Find a label",
    engine: "Engine",
    digest: "Package digest",
    input: "Input",
    output: "Output",
    golden: "Golden samples",
    noGolden: "The package has no golden samples.",
    goldenPassed: "✓ passed: {samples|sample}, largest score difference {difference}, tolerance {tolerance}",
    preprocess: "Preprocessing",
    labels: "Labels ({count})",
    tryIt: "Try it",
    stageNames: {},
    errors: {
      336000: ["The server failed unexpectedly.", "Find the log_id in the server log (classifyd logs LOG_ID): it has the traceback. Other requests are not affected."],
      336001: ["A parameter has the wrong type or value, or no model is deployed under this name.", "Compare the request with /docs; top_num must be a positive integer. GET /readyz lists the deploy names."],
      336002: ["The body is not JSON.", "Send a JSON object such as {\"image\": \"…\"}, and check how the client builds and encodes the body (UTF-8)."],
      336003: ["The image is not plain base64.", "Encode the bytes of the file as standard base64 with padding, without a data: header or URL encoding."],
      336004: ["The image is too large or too small.", "At most 4 MiB of base64 (a file of 3 MiB), shortest side at least 15 px, longest side at most 4096 px: scale the image before sending it."],
      336005: ["The image cannot be decoded.", "Send a complete jpg, png or bmp. Convert other formats first, and check that the file is not truncated."],
      336006: ["A required parameter is missing.", "Send the image in the field image."],
      336100: ["The model is temporarily unavailable: loading, overloaded or shutting down.", "Retry after the seconds in Retry-After. If it persists, /readyz explains why."],
      337000: ["The access token or the server's licence does not allow this call.", "Enter a valid access token above; the detail says whether the token or the licence is the problem. An operator creates tokens with classifyd token add NAME."],
    },
  },
  zh: {
    otherLanguage: "English",
    models: "模型",
    more: "更多",
    api: "接口文档",
    try: "试用",
    lead: "识别一张图片：页面显示分类结果、模型看到的图和代码示例。",
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
    preview: "模型看到的图",
    notShown: "浏览器无法显示此文件。",
    inTheLog: "在服务日志中查看：",
    classes: "类别",
    stages: "各阶段耗时（毫秒）",
    total: "总计（浏览器测得）",
    request: "代码示例",
    client: "编程语言",
    howToRun: "保存为 {file}，与 {picture} 放在同一目录，然后运行：{run}",
    copy: "复制",
    copied: "已复制。",
    meaning: "含义",
    detail: "具体原因",
    todo: "处理办法",
    unreachable: "服务没有响应。",
    unreachableTodo: "请确认服务仍在运行：正常时 /healthz 会有响应。",
    tooBig: "文件有 {size} MiB，没有发送：base64 最多 4 MiB，即文件最多 3 MiB。",
    none: "没有可以调用的模型，原因见 /readyz。",
    broken: "无法提供服务，原因见 /readyz：{names}",
    version: "版本",
    address: "地址",
    package: "当前激活的模型包",
    filter: "查找标签",
    engine: "推理引擎",
    digest: "模型包摘要",
    input: "输入",
    output: "输出",
    golden: "黄金样本",
    noGolden: "模型包没有黄金样本。",
    goldenPassed: "✓ 通过：{samples} 个样本，置信度最多相差 {difference}，容差 {tolerance}",
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
      337000: ["访问令牌或服务的授权不允许这次调用。", "请在上方填入有效的访问令牌；具体原因会说明是令牌还是授权的问题。运维人员用 classifyd token add NAME 生成令牌。"],
    },
  },
};

export let language = keptLanguage() || browserLanguage();

export function switchLanguage() {
  language = language === "zh" ? "en" : "zh";
  keepLanguage(language);
}

// Fills {name} with a value, and {name|noun} with a count and its noun.
export function text(key, values = {}) {
  return texts[language][key].replace(/\{(\w+)\|?(\w*)\}/g, (_, name, noun) => (noun ? pluralise(values[name], noun) : values[name]));
}

const pluralise = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

export function errorText(code) {
  return texts[language].errors[code] || ["", ""];
}

// A stage of Server-Timing; in Chinese with its meaning.
export function stageText(stage) {
  const meaning = texts[language].stageNames[stage];
  return meaning ? `${meaning} ${stage}` : stage;
}
