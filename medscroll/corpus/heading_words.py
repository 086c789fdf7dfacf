"""Words that are headings where they stand alone on a line, or before a colon at its start; in any mix of case for
English. Admission notes and discharge summaries follow the Chinese rules for records (2010) and the habits of American
hospitals; drug labels the Chinese template for package inserts and 21 CFR 201.57; papers IMRaD."""

# ruff: noqa: E501  (tables of words; a Chinese character counts as two columns)

from __future__ import annotations

_RECORDS_ZH = """主诉 现病史 既往史 既往病史 个人史 婚育史 婚姻史 生育史 月经史 家族史 过敏史 药物过敏史 用药史 输血史 手术史 外伤史
传染病史 预防接种史 流行病学史 一般情况 一般资料 体格检查 查体 体检 生命体征 专科检查 专科情况 神经系统检查 辅助检查
实验室检查 实验室及器械检查 影像学检查 病史小结 病例特点 病历摘要 拟诊讨论 诊断依据 诊断 初步诊断 鉴别诊断 入院诊断 出院诊断
修正诊断 补充诊断 确定诊断 最后诊断 死亡诊断 死亡原因 术前诊断 术中诊断 术后诊断 病理诊断 影像诊断 入院情况 入院时情况 诊疗经过
治疗经过 住院经过 抢救经过 手术经过 麻醉方式 手术名称 诊疗计划 治疗计划 处理意见 出院情况 出院时情况 出院医嘱 出院带药 出院指导
健康教育 入院记录 出院记录 出院小结 死亡记录 手术记录 病程记录 首次病程记录 日常病程记录 术后首次病程记录 术后病程记录 会诊记录
查房记录 抢救记录 转科记录 转入记录 转出记录 交班记录 接班记录 阶段小结 术前小结 术前讨论 疑难病例讨论 死亡病例讨论 护理记录
影像所见 检查所见 检查结论 超声所见 超声提示 肉眼所见 镜下所见 免疫组化 诊断意见 治疗 随访"""
_PAPERS_ZH = """摘要 关键词 背景 目的 方法 结果 结论 讨论 引言 前言 资料与方法 材料与方法 对象与方法 临床资料 统计学方法 统计学处理
参考文献 致谢 利益冲突 作者贡献 基金项目 概述 流行病学 病因 发病机制 病理 病理生理 临床表现 并发症 预防 预后 小结 总结
推荐意见 证据总结 适用人群 附录"""
_LABELS_ZH = """药品名称 成份 成分 性状 适应症 适应证 规格 用法用量 用法与用量 不良反应 禁忌 禁忌症 注意事项 孕妇及哺乳期妇女用药
儿童用药 老年用药 药物相互作用 药物过量 临床试验 药理毒理 药理作用 药代动力学 贮藏 包装 有效期 执行标准 批准文号 生产企业
警示语 上市许可持有人 功能主治"""
_RECORDS_EN = """Chief Complaint|Presenting Complaint|Reason for Admission|Reason for Consultation|Reason for Visit|
History of Present Illness|HPI|Interval History|Past Medical History|Past Surgical History|
Past Medical and Surgical History|PMH|PSH|Medications|Home Medications|Current Medications|Medications on Admission|
Admission Medications|Allergies|Family History|Social History|Review of Systems|ROS|Vital Signs|Vitals|Physical Exam|
Physical Examination|Physical Exam on Admission|Physical Exam on Discharge|Admission Physical Exam|
Discharge Physical Exam|Laboratory Data|Laboratory Results|Labs|Admission Labs|Discharge Labs|Pertinent Results|
Imaging|Imaging Studies|Radiology|Microbiology|Pathology|Hospital Course|Brief Hospital Course|
Hospital Course by Problem|Hospital Course by System|Assessment|Assessment and Plan|Assessment & Plan|
Assessment/Plan|Plan|Impression|Procedures|Procedures Performed|Major Surgical or Invasive Procedure|
Operative Findings|Description of Procedure|Preoperative Diagnosis|Postoperative Diagnosis|Admission Diagnosis|
Admitting Diagnosis|Principal Diagnosis|Secondary Diagnoses|Final Diagnosis|Discharge Diagnosis|Discharge Diagnoses|
Discharge Medications|Discharge Instructions|Discharge Condition|Condition at Discharge|Condition on Discharge|
Discharge Disposition|Disposition|Follow-up|Follow Up|Followup|Follow-up Instructions|Followup Instructions|
Code Status|Consultations|Consults|Indication|Technique|Comparison|Findings|Discharge Summary|Progress Note|
Nursing Note|Operative Note|Consultation Note|Admission Note|Radiology Report|Addendum"""
_PAPERS_EN = """Abstract|Background|Introduction|Objective|Objectives|Aims|Methods|Method|Materials and Methods|
Patients and Methods|Subjects and Methods|Participants|Study Design|Statistical Analysis|Statistical Analyses|Results|
Discussion|Limitations|Strengths and Limitations|Conclusion|Conclusions|Case Report|Case Presentation|Case Series|
Acknowledgments|Acknowledgements|Acknowledgment|Funding|Competing Interests|Conflicts of Interest|
Conflict of Interest|Ethics Approval|Data Availability|Author Contributions|References|Bibliography|Appendix|
Executive Summary|Recommendations|Summary of Recommendations|Key Points|Scope and Purpose|Rationale|Epidemiology|
Etiology|Aetiology|Pathogenesis|Pathophysiology|Clinical Manifestations|Clinical Features|Clinical Presentation|
Diagnosis|Differential Diagnosis|Treatment|Management|Prognosis|Complications|Prevention"""
_LABELS_EN = """Boxed Warning|Indications and Usage|Indications & Usage|Dosage and Administration|
Dosage & Administration|Dosage Forms and Strengths|Contraindications|Warnings|Precautions|Warnings and Precautions|
Adverse Reactions|Drug Interactions|Use in Specific Populations|Pregnancy|Lactation|Pediatric Use|Geriatric Use|
Drug Abuse and Dependence|Overdosage|Description|Clinical Pharmacology|Mechanism of Action|Pharmacodynamics|
Pharmacokinetics|Nonclinical Toxicology|Clinical Studies|How Supplied|How Supplied/Storage and Handling|
Storage and Handling|Patient Counseling Information|Undesirable Effects|Posology and Method of Administration|
Therapeutic Indications|Special Warnings and Precautions for Use"""

HEADINGS_ZH = tuple(dict.fromkeys(f"{_RECORDS_ZH} {_PAPERS_ZH} {_LABELS_ZH}".split()))
HEADINGS_EN = tuple(dict.fromkeys("".join(f"{_RECORDS_EN}|{_PAPERS_EN}|{_LABELS_EN}".split("\n")).split("|")))
NOTES_ZH = "记录|病程|查房|小结|会诊|讨论|谈话|手术|护理"
NOTES = frozenset(
    ("discharge summary", "progress note", "nursing note", "operative note", "consultation note", "admission note",
     "radiology report", "addendum", "出院小结", *(word for word in HEADINGS_ZH if word.endswith("记录")))
)  # fmt: skip
