"""Which rule a usage key meets: real usage types of AWS bills and meters of Azure."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from offgridflow_pipeline.emissions.classify import classify
from offgridflow_pipeline.emissions.models import Machine, MovedData, Processing, StoredData, UsageKey, WholeHost
from offgridflow_pipeline.emissions.rules import RULES, RuleError, load_rules
from offgridflow_pipeline.factors.register import load_factor_set

SAMPLE = Path(__file__).resolve().parents[3] / "shared/billing/aws/focus_converters_sample-anonymous-aws-export.csv"
REGIONS = ["USE1", "USE2", "USW2", "CAN1", "EU", "EUW3", "EUC1", "EUN1", "APN1", "APS2", "AFS1", "ILC1", "SAE1"]


def aws(service: str, usage_type: str, unit: str = "Hours", operation: str = "", **more: str) -> UsageKey:
    return UsageKey(provider="aws", service_code=service, usage_type=usage_type, unit=unit, operation=operation, **more)


def azure(category: str, meter: str, unit: str = "Hours", subcategory: str = "", **more: str) -> UsageKey:
    return UsageKey(
        provider="azure", meter_category=category, meter_subcategory=subcategory, meter=meter, unit=unit, **more
    )


def verdict(key: UsageKey) -> tuple[str, str, str | None]:
    found = classify(key)
    return found.rule_id, found.disposition, found.reason or found.proxy_rule


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (aws("AmazonEC2", "BoxUsage:m5.xlarge"), ("A01", "mapped", None)),
        (aws("AmazonEC2", "EUW2-SpotUsage:c5.large"), ("A01", "mapped", None)),
        (aws("AmazonEC2", "BoxUsage"), ("A01", "mapped", None)),
        (aws("AmazonEC2", "USW2-UnusedBox:m5.large"), ("A02", "mapped", None)),
        (aws("AmazonEC2", "HostUsage:m5"), ("A03a", "mapped", None)),
        (aws("AmazonEC2", "HostBoxUsage:m5.large"), ("A03b", "no_emission", "counted_on_host")),
        (aws("AmazonEC2", "CPUCredits:t3", "vCPU-Hours"), ("A04", "mapped", None)),
        (aws("AmazonEC2", "EBS:VolumeUsage.gp3", "GiB-Hours"), ("A05a", "mapped", None)),
        (aws("AmazonEC2", "EU-EBS:VolumeUsage", "GiB-Hours"), ("A05b", "mapped", None)),
        (aws("AmazonEC2", "EBS:VolumeUsage.st1", "GiB-Hours"), ("A05b", "mapped", None)),
        (aws("AmazonEC2", "EBS:SnapshotUsage", "GiB-Hours"), ("A06", "mapped", None)),
        (aws("AmazonEC2", "EBS:VolumeP-IOPS.piops", "Count"), ("A07", "no_emission", "performance_attribute")),
        (aws("AmazonEC2", "ElasticIP:IdleAddress"), ("A08", "no_emission", "network_attribute")),
        (aws("AmazonVPC", "USE1-PublicIPv4:InUseAddress"), ("A08", "no_emission", "network_attribute")),
        (aws("AWSELB", "LoadBalancerUsage"), ("A10b", "proxied", "appliance")),
        (aws("AWSELB", "EU-LCUUsage", "Count"), ("A10a", "no_emission", "counted_in_appliance")),
        (aws("AmazonEC2", "NatGateway-Bytes", "GiB"), ("A11", "mapped", None)),
        (aws("AWSELB", "USW2-DataProcessing-Bytes", "GiB"), ("A11", "mapped", None)),
        (aws("AmazonEC2", "USW2-DataTransfer-Out-Bytes", "GiB"), ("A12a", "mapped", None)),
        (aws("AmazonS3", "USE1-CAN1-AWS-Out-Bytes", "GiB"), ("A12a", "mapped", None)),
        (aws("AmazonS3", "CAN1-USE1-AWS-In-Bytes", "GiB"), ("A12b", "no_emission", "transfer_mirror")),
        (aws("AmazonEC2", "DataTransfer-Regional-Bytes", "GiB", "InterZone-Out"), ("A13c", "mapped", None)),
        (
            aws("AmazonEC2", "DataTransfer-Regional-Bytes", "GiB", "InterZone-In"),
            ("A13d", "no_emission", "transfer_mirror"),
        ),
        (aws("AmazonEC2", "DataTransfer-Regional-Bytes", "GiB"), ("A13e", "proxied", "transfer_half")),
        (aws("AmazonEC2", "CAN1-DataTransfer-xAZ-In-Bytes", "GiB"), ("A13b", "no_emission", "transfer_mirror")),
        (aws("AmazonCloudFront", "EU-DataTransfer-Out-Bytes", "GiB"), ("A14", "proxied", "cdn")),
        (aws("AmazonCloudFront", "US-DataTransfer-Out-OBytes", "GiB"), ("A14", "proxied", "cdn")),
        (aws("AmazonS3", "TimedStorage-ByteHrs", "GiB-Hours"), ("A20a", "mapped", None)),
        (aws("AmazonS3", "USW2-TimedStorage-GlacierByteHrs", "GiB-Hours"), ("A20a", "mapped", None)),
        (aws("AmazonS3", "EU-TimedStorage-ZIA-ByteHrs", "GiB-Hours"), ("A20b", "mapped", None)),
        (aws("AmazonS3", "TimedStorage-XZ-ByteHrs", "GiB-Hours"), ("A20c", "mapped", None)),
        (aws("AmazonS3", "USW2-EarlyDelete-ByteHrs", "GiB-Hours"), ("A21a", "no_emission", "early_delete")),
        (aws("AmazonS3", "TimedStorage-SIA-SmObjects", "GiB-Hours"), ("A21b", "no_emission", "billing_minimum")),
        (aws("AmazonS3", "Retrieval-SIA", "GiB"), ("A22", "mapped", None)),
        (aws("AmazonRDS", "EU-InstanceUsage:db.r5.large"), ("A30a", "mapped", None)),
        (aws("AmazonRDS", "Multi-AZUsage:db.r5.large"), ("A30b", "mapped", None)),
        (aws("AmazonRDS", "Multi-AZClusterUsage:db.r6gd.large"), ("A30c", "mapped", None)),
        (aws("AmazonElastiCache", "NodeUsage:cache.t3.micro"), ("A30d", "mapped", None)),
        (aws("AmazonMSK", "USE1-Kafka.m5.large"), ("A30e", "mapped", None)),
        (aws("AmazonES", "ESInstance:m5.large.search"), ("A30f", "mapped", None)),
        (aws("AmazonRedshift", "Node:ra3.4xlarge"), ("A30h", "mapped", None)),
        (aws("AmazonSageMaker", "USE1-Host:ml.m5.large"), ("A30i", "mapped", None)),
        (aws("AmazonRDS", "RDS:GP2-Storage", "GiB-Hours"), ("A31a", "mapped", None)),
        (aws("AmazonRDS", "EU-RDS:Multi-AZ-GP3-Storage", "GiB-Hours"), ("A31b", "mapped", None)),
        (aws("AmazonRDS", "Aurora:StorageUsage", "GiB-Hours"), ("A31c", "mapped", None)),
        (aws("AmazonRDS", "RDS:ChargedBackupUsage", "GiB-Hours"), ("A31d", "mapped", None)),
        (aws("AmazonDynamoDB", "TimedStorage-ByteHrs", "GiB-Hours"), ("A32a", "mapped", None)),
        (aws("AmazonEFS", "USE2-TimedStorage-ByteHrs", "GiB-Hours"), ("A32h", "mapped", None)),
        (aws("AmazonEFS", "IATimedStorage-ByteHrs", "GiB-Hours"), ("A32f", "mapped", None)),
        (aws("AmazonECR", "TimedStorage-ByteHrs", "GiB-Hours"), ("A33a", "mapped", None)),
        (aws("AmazonCloudWatch", "CAN1-TimedStorage-ByteHrs", "GiB-Hours"), ("A33b", "mapped", None)),
        (aws("AWSLambda", "EU-Lambda-GB-Second", "GiB-Hours"), ("A40a", "mapped", None)),
        (aws("AWSLambda", "Lambda-Provisioned-Concurrency", "GiB-Hours"), ("A40c", "mapped", None)),
        (aws("AWSLambda", "Lambda-Provisioned-GB-Second-ARM", "GiB-Hours"), ("A40d", "mapped", None)),
        (aws("AmazonECS", "USE1-Fargate-ARM-vCPU-Hours:perCPU", "vCPU-Hours"), ("A41b", "mapped", None)),
        (aws("AWSGlue", "USE1-ETL-DPU-Hour"), ("A41e", "proxied", "glue_dpu")),
        (aws("AmazonRDS", "Aurora:ServerlessV2Usage"), ("A41f", "proxied", "aurora_acu")),
        (aws("AmazonEKS", "USE1-AmazonEKS-Hours:perCluster"), ("A42", "proxied", "control_plane")),
        (aws("CodeBuild", "USE1-Build-Min:Linux:g1.small"), ("A43a", "proxied", "codebuild_small")),
        (aws("ElasticMapReduce", "BoxUsage:m5.xlarge"), ("A50a", "no_emission", "uplift_on_instance")),
        (aws("AmazonECS", "EKS-EC2-vCPU-Hours", "vCPU-Hours"), ("A50b", "no_emission", "split_child")),
        (aws("prod-x", "SoftwareUsage:t2.nano"), ("A51a", "no_emission", "licence")),
        (aws("AWSSupportBusiness", "Dollar", ""), ("A51b", "no_emission", "support")),
        (aws("AmazonS3", "USW2-Requests-Tier1", "Requests"), ("A60a", "unmapped", "request_priced")),
        (aws("awskms", "ca-central-1-KMS-Keys", "Count"), ("A60a", "unmapped", "request_priced")),
        (aws("AmazonBedrock", "USE1-Claude3-input-tokens", "Count"), ("A61", "unmapped", "tokens")),
        (aws("AmazonBraket", "USE1-Task", "Count"), ("A99", "unmapped", "unknown_usage_key")),
        (aws("AmazonEC2", "BoxUsage:m5.large", ""), ("A01", "unmapped", "unit")),
        (aws("AmazonS3", "TimedStorage-ByteHrs", "Hours"), ("A20a", "unmapped", "unit")),
        (
            aws("AWSX", "Bundle", line_item_type="FlatRateSubscription"),
            ("A52", "unmapped", "flat_rate"),
        ),
        (azure("Virtual Machines", "D2s v3"), ("Z01a", "mapped", None)),
        (azure("Virtual Machines Licenses", "2 vCPU VM License"), ("Z01b", "no_emission", "licence")),
        (
            azure("SQL Managed Instance", "vCore", subcategory="Managed Instance General Purpose - SQL License"),
            ("Z01c", "no_emission", "licence"),
        ),
        (azure("Storage", "P30 LRS Disk", subcategory="Premium SSD Managed Disks"), ("Z02a", "mapped", None)),
        (
            azure("Storage", "Disk Operations", "Requests", "Standard HDD Managed Disks"),
            ("Z02x", "no_emission", "performance_attribute"),
        ),
        (azure("Storage", "Hot LRS Data Stored", "GiB-Hours", "Tiered Block Blob"), ("Z03d", "mapped", None)),
        (azure("Storage", "Hot RA-GRS Data Stored", "GiB-Hours", "Tiered Block Blob"), ("Z03c", "mapped", None)),
        (azure("Bandwidth", "Standard Data Transfer Out", "GiB"), ("Z04a", "mapped", None)),
        (azure("Bandwidth", "Standard Data Transfer In", "GiB"), ("Z04b", "no_emission", "transfer_mirror")),
        (azure("Azure Database for MySQL", "2 vCore", subcategory="Basic - Compute Gen5"), ("Z05b", "mapped", None)),
        (azure("SQL Database", "General Purpose Data Stored", "GiB-Hours"), ("Z05d", "mapped", None)),
        (azure("SQL Database", "B DTU", subcategory="Single Basic"), ("Z05e", "proxied", "dtu_basic")),
        (azure("Functions", "Standard Total Executions", "Count"), ("Z61", "unmapped", "request_priced")),
        (azure("Azure App Service", "P1 v3 App"), ("Z06P1v3", "proxied", "app_service_p1v3")),
        (azure("Functions", "Standard Execution Time", "GiB-Hours"), ("Z07a", "mapped", None)),
        (azure("Redis Cache", "C1 Cache", subcategory="Azure Redis Cache Standard"), ("Z08b", "mapped", None)),
        (azure("Quantum", "Qubit"), ("Z99", "unmapped", "unknown_usage_key")),
        (UsageKey(provider="oci", unit="Hours"), ("X99", "unmapped", "unknown_usage_key")),
        (UsageKey(), ("X99", "unmapped", "unit")),
    ],
)
def test_a_usage_key_meets_its_rule(key, expected) -> None:
    assert verdict(key) == expected


@pytest.mark.parametrize("region", ["", *(f"{prefix}-" for prefix in REGIONS), "ca-central-1-"])
@pytest.mark.parametrize(
    ("service", "name", "unit", "rule"),
    [
        ("AmazonEC2", "BoxUsage:m5.large", "Hours", "A01"),
        ("AmazonEC2", "EBS:VolumeUsage.gp2", "GiB-Hours", "A05a"),
        ("AmazonS3", "TimedStorage-ByteHrs", "GiB-Hours", "A20a"),
        ("AmazonEC2", "DataTransfer-Out-Bytes", "GiB", "A12a"),
        ("AWSLambda", "Lambda-GB-Second", "GiB-Hours", "A40a"),
    ],
)
def test_a_region_prefix_does_not_change_the_rule(region, service, name, unit, rule) -> None:
    assert classify(aws(service, f"{region}{name}", unit)).rule_id == rule


def test_text_that_looks_like_a_prefix_belongs_to_the_name() -> None:
    # ECS-, RDS: and EBS: are no region prefixes; a rule for VolumeUsage alone must not match them away.
    assert classify(aws("AmazonEC2", "XBoxUsage:m5.large")).rule_id == "A99"
    assert classify(aws("AmazonECS", "ECS-EC2-GB-Hours", "GiB-Hours")).reason == "split_child"


def test_the_verdict_of_staging_is_taken_over_with_its_reason() -> None:
    key = aws("AmazonEC2", "BoxUsage:m5.large", disposition="no_emission", disposition_reason="commitment_fee")
    assert verdict(key) == ("STAGING", "no_emission", "commitment_fee")


@pytest.mark.parametrize(
    ("key", "type_name"),
    [
        (aws("AmazonEC2", "BoxUsage"), "m1.small"),
        (aws("AmazonEC2", "BoxUsage:m5.xlarge", instance_type="m5.2xlarge"), "m5.2xlarge"),
        (aws("AmazonRDS", "InstanceUsage:db.r5.xl"), "r5.xl"),
        (aws("AmazonRDS", "InstanceUsage:db.r5.large", instance_type="db.r5.large"), "r5.large"),
        (aws("AmazonElastiCache", "NodeUsage:cache.t3.micro"), "t3.micro"),
        (aws("AmazonMSK", "USE1-Kafka.m5.large"), "m5.large"),
        (aws("AmazonES", "ESInstance:m5.large", instance_type="m5.large.search"), "m5.large"),
        (aws("AmazonSageMaker", "USE1-Notebk:ml.t3.medium"), "t3.medium"),
        (aws("AmazonMQ", "USE1-mq.m5.large"), "m5.large"),
    ],
)
def test_the_machine_behind_a_managed_type_is_found(key, type_name) -> None:
    model = classify(key).model
    assert isinstance(model, Machine)
    assert model.type_name == type_name


def test_models_carry_what_the_rules_say() -> None:
    unused = classify(aws("AmazonEC2", "BoxUsage:m5.large", capacity_status="Unused")).model
    assert isinstance(unused, Machine) and unused.held
    assert classify(aws("AmazonEC2", "HostUsage:m5")).model == WholeHost("m5")
    multi_az = classify(aws("AmazonRDS", "RDS:Multi-AZ-GP2-Storage", "GiB-Hours")).model
    assert multi_az == StoredData("ssd", ("replication/aws/rds", "coefficient/multi_az.instances"))
    undirected = classify(aws("AmazonEC2", "DataTransfer-Regional-Bytes", "GiB")).model
    assert undirected == MovedData(("coefficient/transfer.undirected_share",))
    assert classify(aws("AmazonCloudFront", "JP-DataTransfer-Out-Bytes", "GiB")).model == MovedData((), "JP")
    memory_row = classify(aws("AmazonECS", "Fargate-GB-Hours", "GiB-Hours")).model
    assert isinstance(memory_row, Processing) and memory_row.embodied == "on_vcpu_row"


def test_every_factor_that_a_rule_names_is_in_the_factor_set() -> None:
    fs = load_factor_set()
    keys = set(re.findall(r"(?:replication|proxy\.resources|coefficient)/[\w./]+", RULES.read_text("utf-8")))
    assert keys
    assert [key for key in sorted(keys) if len(fs.get(key)) != 1] == []


def test_every_rule_of_the_method_for_aws_is_present() -> None:
    numbers = {re.match(r"A\d\d", rule.rule_id)[0] for rule in load_rules() if rule.provider == "aws"}
    expected = [*range(1, 9), *range(10, 15), *range(20, 23), *range(30, 34), *range(40, 44), 50, 51, 60, 61, 99]
    assert {f"A{number:02}" for number in expected} <= numbers


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("reason", "because", "reason 'because'"),
        ("unit", "", "unit is empty"),
        ("source", "", "source is empty"),
        ("model", "magic", "model 'magic'"),
    ],
)
def test_a_broken_rule_row_is_refused_with_its_id(tmp_path, column, value, message) -> None:
    with RULES.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    row = next(row for row in rows if row["rule_id"] == "A01")
    row[column] = value
    path = tmp_path / "rules.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerow(row)
    with pytest.raises(RuleError, match=f"rule A01: .*{message}"):
        load_rules.__wrapped__(path)


@pytest.mark.skipif(not SAMPLE.exists(), reason="the anonymised AWS sample is not on this machine")
def test_no_key_of_the_real_sample_is_unknown() -> None:
    units = {"GB": "GiB", "GB-Mo": "GiB-Hours", "Hrs": "Hours"}
    with SAMPLE.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            if row["lineItem/LineItemType"] == "Tax":
                continue
            key = aws(
                row["lineItem/ProductCode"],
                row["lineItem/UsageType"],
                units.get(row["pricing/unit"], "Requests"),
                row["lineItem/Operation"],
            )
            assert classify(key).rule_id != "A99", key
