"""Instance types and processors: the figures let the fixtures of carbon-method.md section 15 come out."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from statistics import median

import pytest

from offgridflow_pipeline.factors import hardware
from offgridflow_pipeline.factors.register import load_factor_set
from offgridflow_pipeline_tests.factors.samples import shared_rows

FACTORS = load_factor_set()
HALF = Decimal("0.5")
LIFETIME = FACTORS.number("coefficient/server.lifetime_hours")


def found(provider: str, name: str) -> hardware.InstanceType:
    instance = hardware.instance(FACTORS, provider, name)
    assert instance is not None
    return instance


def host_watts(name: str) -> Decimal:
    """Section 6.1, written down a second time."""
    instance = found("aws", name)
    host = instance.host
    assert host is not None
    assert instance.vcpus is not None
    assert instance.memory_gib is not None
    busy = host.sizes_per_host * (host.cpu_watts(HALF) + host.delta_w)
    memory = host.sizes_per_host * host.ram_watts(HALF)
    if instance.burstable:
        return (busy + memory) * instance.memory_gib / host.platform_memory_gib
    gpus = host.gpu_watts(HALF) * (instance.gpus or 0) / host.largest_gpus if host.largest_gpus else Decimal(0)
    return busy * instance.vcpus / host.vcpus + memory * instance.memory_gib / host.memory_gib + gpus


def benchmark_watts(provider: str, name: str) -> Decimal:
    """Section 6.2, written down a second time."""
    instance = found(provider, name)
    cpu = hardware.cpu_power(FACTORS, instance.cpu_families, provider)
    memory_w = FACTORS.number("coefficient/memory.watts_per_gib")
    core = cpu.idle_w + HALF * (cpu.full_w - cpu.idle_w) - memory_w * cpu.memory_gb_per_thread
    assert instance.vcpus is not None
    assert instance.memory_gib is not None
    return FACTORS.number("coefficient/cpu.alignment") * (
        instance.vcpus * instance.threads_per_vcpu * core + memory_w * instance.memory_gib
    )


@pytest.mark.parametrize(
    ("name", "watts"),
    [("p3.2xlarge", "279.346"), ("t3.micro", "1.765"), ("t3.2xlarge", "56.48"), ("m5.xlarge", "28.242")],
)
def test_measured_hosts_give_the_watts_of_the_method(name: str, watts: str) -> None:
    assert abs(host_watts(name) - Decimal(watts)) < Decimal("0.0005")


def test_m5_xlarge_for_a_day_is_the_fixture() -> None:
    assert abs(host_watts("m5.xlarge") * 24 / 1000 - Decimal("0.6778")) < Decimal("1e-9")
    embodied = found("aws", "m5.xlarge").embodied
    day = embodied.kg * 24 * 4 / embodied.vcpus / LIFETIME
    assert abs(day - Decimal("0.045970034")) < Decimal("1e-9")


def test_p3_2xlarge_shares_the_sold_vcpus_of_its_host() -> None:
    embodied = found("aws", "p3.2xlarge").embodied
    assert embodied.vcpus == 64
    assert abs(embodied.kg * 8 / embodied.vcpus / LIFETIME - Decimal("0.012641945")) < Decimal("1e-9")


@pytest.mark.parametrize(
    ("provider", "name", "watts"),
    [
        ("azure", "D4s v5", "21.250264"),
        ("azure", "Standard_D4s_v5", "21.250264"),
        ("aws", "m7g.large", "7.679027"),
        ("aws", "m7i.large", "11.1337994"),
        ("aws", "m7a.large", "9.450772"),
    ],
)
def test_benchmark_types_give_the_watts_of_the_method(provider: str, name: str, watts: str) -> None:
    assert abs(benchmark_watts(provider, name) - Decimal(watts)) < Decimal("1e-6")


@pytest.mark.parametrize(
    ("family", "watts"),
    [
        ("amd-epyc-gen1", "1.1401"), ("amd-epyc-gen2", ".6586"), ("amd-epyc-gen3", ".7779"),
        ("amd-epyc-gen4", ".7209"), ("amd-epyc-gen5", ".4622"), ("amd-neoverse-n1", ".8776"),
        ("intel-broadwell", "1.4815"), ("intel-skylake-server", "1.6525"), ("intel-cascadelake", "1.6498"),
        ("intel-icelake", "1.8158"), ("intel-sapphirerapids", "1.9778"), ("intel-emeraldrapids", "1.6393"),
        ("intel-graniterapids", "1.2056"), ("intel-haswell", "1.8966"), ("intel-ivybridge", "3.1898"),
        ("intel-sandybridge", "4.5179"), ("intel-coffeelake", "2.9900"),
    ],
)  # fmt: skip
def test_every_processor_family_has_the_watts_of_the_table(family: str, watts: str) -> None:
    cpu = hardware.cpu_power(FACTORS, (family,), "aws")
    core = (cpu.idle_w + cpu.full_w) / 2 - FACTORS.number("coefficient/memory.watts_per_gib") * cpu.memory_gb_per_thread
    assert abs(core - Decimal(watts)) <= Decimal("0.00006")
    assert cpu.exact


@pytest.mark.parametrize(("provider", "watts"), [("aws", "1.728"), ("azure", "1.748"), ("gcp", "2.003")])
def test_an_unknown_processor_is_the_providers_average(provider: str, watts: str) -> None:
    cpu = hardware.cpu_power(FACTORS, (), provider)
    core = (cpu.idle_w + cpu.full_w) / 2 - FACTORS.number("coefficient/memory.watts_per_gib") * cpu.memory_gb_per_thread
    assert core == Decimal(watts)
    assert cpu.average
    assert hardware.cpu_power(FACTORS, (), "oci").idle_w == Decimal("0.74")


def test_several_processors_are_the_mean_of_their_medians() -> None:
    both = hardware.cpu_power(FACTORS, ("intel-broadwell", "intel-haswell"), "gcp")
    assert both.full_w == (Decimal("3.0227") + Decimal("3.8333")) / 2
    assert not both.exact
    assert len(both.factor_uids) == 2


def test_host_shares_reproduce_the_published_watts_of_every_other_size_within_five_per_cent() -> None:
    off = []
    for row in shared_rows("aws_instance_power_teads.csv"):
        name = row["instance_type"]
        instance = hardware.instance(FACTORS, "aws", name)
        if name.startswith(("db.", "cache.")) or instance is None or instance.host is None or instance.burstable:
            continue
        published = Decimal(row["instance_w_50"])
        if abs(host_watts(name) - published) > max(published * 5 / 100, Decimal("0.3")):
            off.append((name, host_watts(name), published))
    assert off == []


def test_the_shares_of_a_full_host_sum_to_the_host() -> None:
    sizes = defaultdict(list)
    for factor in FACTORS.of_kind("instance.type"):
        provider, name = factor.factor_key.split("/")[1:3]
        if provider == "aws" and "host" in factor.attributes:
            sizes[factor.attributes["host"]].append(found("aws", name))
    assert len(sizes) == len(FACTORS.of_kind("host.power"))
    for members in sizes.values():
        host = members[0].host
        assert host is not None
        largest = max(members, key=lambda member: (member.vcpus, member.memory_gib))
        assert host.vcpus == host.sizes_per_host * largest.vcpus  # type: ignore[operator]
        assert host.vcpus <= max(host.platform_vcpus, largest.vcpus or 0)


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("Intel Xeon Platinum 8375C", "intel-icelake"), ("Intel Xeon Platinum 8259CL", "intel-cascadelake"),
        ("Intel Skylake P-8175", "intel-skylake-server"), ("Intel Xeon E5-2686 v4", "intel-broadwell"),
        ("Intel Xeon E5-2676 V3", "intel-haswell"), ("Intel Xeon E5-2680 V2", "intel-ivybridge"),
        ("Intel Xeon E5-2670", "intel-sandybridge"), ("Intel Haswell E7 8880v3", "intel-haswell"),
        ("Intel Broadwell E5-2686 v4", "intel-broadwell"), ("AMD EPYC 7571", "amd-epyc-gen1"),
        ("2nd Gen AMD EPYC 7R32", "amd-epyc-gen2"), ("AMD EPYC 7R13", "amd-epyc-gen3"),
        ("AMD EPYC 9R14", "amd-epyc-gen4"), ("AMD EPYC 9R45", "amd-epyc-gen5"),
        ("AWS Graviton4 Processor", "amd-neoverse-n1"), ("Google Axion", "amd-neoverse-n1"),
        ("Intel Xeon Platinum 8581C", "intel-emeraldrapids"),
        ("Intel Xeon Platinum 8490H", "intel-sapphirerapids"),
        ("Intel Xeon Granite Rapids", "intel-graniterapids"), ("Apple M1 chip with 8-core CPU", None),
        ("Intel Xeon Family", None), ("", None),
    ],
)  # fmt: skip
def test_processor_names_lead_to_their_family(name: str, family: str | None) -> None:
    assert hardware.cpu_family(FACTORS, name) == family


@pytest.mark.parametrize(
    ("name", "gpus", "model"),
    [
        ("g5.xlarge", 1, "a10g"), ("g6.12xlarge", 4, "l4"), ("g6e.48xlarge", 8, "l40s"),
        ("g4dn.metal", 8, "t4"), ("p4de.24xlarge", 8, "a100"), ("p5.48xlarge", 8, "h100"),
        ("p5.4xlarge", 1, "h100"), ("p5en.48xlarge", 8, "h200"),
        ("g6f.large", None, None), ("m5.large", 0, None),
    ],
)  # fmt: skip
def test_accelerators_are_counted_or_said_to_be_unknown(name: str, gpus: int | None, model: str | None) -> None:
    instance = found("aws", name)
    assert (instance.gpus, instance.gpu_model) == (gpus, model)
    assert not instance.accelerator_unknown


@pytest.mark.parametrize("name", ["inf1.xlarge", "inf2.xlarge", "trn1.2xlarge", "dl1.24xlarge"])
def test_chips_without_a_power_figure_are_marked(name: str) -> None:
    assert found("aws", name).accelerator_unknown


def test_a_board_without_a_measurement_is_derived_from_its_design_power() -> None:
    measured = hardware.gpu_power(FACTORS, "Nvidia Tesla V100")
    derived = hardware.gpu_power(FACTORS, "NVIDIA H100")
    assert measured is not None
    assert derived is not None
    assert (measured.idle_w, measured.full_w, measured.derived) == (35, 306, False)
    assert (derived.idle_w, derived.full_w, derived.derived) == (Decimal("80.5"), Decimal("711.9"), True)
    assert hardware.gpu_power(FACTORS, "Abacus 3000") is None


def test_the_alignment_factor_lies_where_the_hosts_with_both_paths_put_it() -> None:
    """Section 6.2: host path / benchmark path over non-GPU, non-burstable hosts, range 1.06 to 3.91."""
    memory_w = FACTORS.number("coefficient/memory.watts_per_gib")
    ratios = {}
    for factor in FACTORS.of_kind("host.power"):
        largest = found("aws", factor.factor_key.rsplit("/", 1)[1])
        host = largest.host
        if host is None or host.largest_gpus or largest.burstable or not largest.cpu_families:
            continue
        cpu = hardware.cpu_power(FACTORS, largest.cpu_families, "aws")
        core = (cpu.idle_w + cpu.full_w) / 2 - memory_w * cpu.memory_gb_per_thread
        whole = host.sizes_per_host * (host.cpu_watts(HALF) + host.delta_w + host.ram_watts(HALF))
        ratios[largest.cpu_families, host.vcpus, host.memory_gib, whole] = whole / (
            host.vcpus * core + memory_w * host.memory_gib
        )
    assert (round(min(ratios.values()), 2), round(max(ratios.values()), 2)) == (
        Decimal("1.06"),
        Decimal("3.91"),
    )
    assert abs(median(ratios.values()) - FACTORS.number("coefficient/cpu.alignment")) < Decimal("0.04")


def test_the_sum_of_parts_names_what_it_leaves_out() -> None:
    graviton, xeon = found("aws", "m7g.large").embodied, found("aws", "m7i.large").embodied
    assert graviton.kg == 1000 + Decimal("1.38802") * (256 - 16)
    assert xeon.kg == 1000 + Decimal("1.38802") * (768 - 16) + 100
    assert (graviton.vcpus, xeon.vcpus) == (64, 192)
    assert graviton.flags == ("local_disk_missing",)
    assert not graviton.generic


@pytest.mark.parametrize(
    ("meter", "name", "vcpus", "memory"),
    [
        ("D2 v3/D2s v3", "d2 v3", 2, 8),
        ("E4-2s v5", "e4s v5", 4, 32),
        ("D4s v5 Spot", "d4s v5", 4, 16),
        ("Standard_E8bds_v5", "e8bds v5", 8, 64),
        ("D4ps v6", "d4ps v6", 4, 16),
        ("D8lds v5", "d8lds v5", 8, 16),
        ("E16ads v6", "e16ads v6", 16, 128),
        ("L8s v3", "l8s v3", 8, None),
    ],
)
def test_azure_sizes_are_found_under_their_meter_names(meter: str, name: str, vcpus: int, memory: int | None) -> None:
    instance = found("azure", meter)
    assert (instance.name, instance.vcpus, instance.memory_gib) == (name, vcpus, memory)


@pytest.mark.parametrize(
    ("size", "families"),
    [
        ("D4as v6", ("amd-epyc-gen4",)), ("D4as v5", ("amd-epyc-gen3",)), ("D4ps v5", ("amd-neoverse-n1",)),
        ("D4s v6", ("intel-emeraldrapids",)), ("F4as v6", ("amd-epyc-gen4",)), ("D4s v5", ("intel-icelake",)),
    ],
)  # fmt: skip
def test_newer_azure_series_name_their_processor(size: str, families: tuple[str, ...]) -> None:
    assert found("azure", size).cpu_families == families


def test_an_azure_gpu_size_that_no_table_lists_has_an_unknown_number() -> None:
    assert found("azure", "NV36ads A10 v5").gpus is None


@pytest.mark.parametrize(
    ("provider", "name", "model", "number"),
    [
        ("azure", "Standard_NC24ads_A100_v4", "a100", 1), ("azure", "NC12 Promo", "k80", 2),
        ("azure", "ND96isr H100 v5", "h100", 8), ("gcp", "a2-highgpu-4g", "a100", 4),
        ("gcp", "a3-ultragpu-8g", "h200", 8), ("gcp", "g2-standard-24", "l4", 2), ("gcp", "g2-standard-8", "l4", 1),
    ],
)  # fmt: skip
def test_sizes_listed_without_accelerators_have_those_their_series_is_sold_with(
    provider: str, name: str, model: str, number: int
) -> None:
    instance = found(provider, name)
    assert (instance.gpu_model, instance.gpus) == (model, number)


@pytest.mark.parametrize(("name", "vcpus"), [("e2-micro", "0.25"), ("e2-medium", "1"), ("f1-micro", "0.2")])
def test_a_shared_core_of_google_counts_as_the_fraction_that_is_billed(name: str, vcpus: str) -> None:
    instance = found("gcp", name)
    assert instance.vcpus == Decimal(vcpus)
    assert instance.embodied.kg * Decimal(vcpus) / instance.embodied.vcpus < 50


def test_oracle_shapes_name_their_processor() -> None:
    assert found("oci", "e4").cpu_families == ("amd-epyc-gen3",)
    assert found("oci", "a1").cpu_families == ("amd-neoverse-n1",)


def test_a_google_family_is_the_text_before_the_first_dash() -> None:
    assert found("gcp", "n2d-standard-4").cpu_families == ("amd-epyc-gen2",)
    assert found("gcp", "n2-standard-4").cpu_families == ("intel-cascadelake",)
    bare = found("gcp", "n2d")
    assert (bare.vcpus, bare.cpu_families, bare.embodied.generic) == (None, ("amd-epyc-gen2",), True)
    assert found("gcp", "t2d-standard-2").threads_per_vcpu == 2


def test_whole_hosts_and_burst_credits_use_the_largest_host_of_the_family() -> None:
    m5, t3 = hardware.family_host(FACTORS, "aws", "m5"), hardware.family_host(FACTORS, "aws", "t3")
    assert m5 is not None
    assert t3 is not None
    assert (m5.vcpus, m5.sizes_per_host) == (96, 1)
    assert (t3.largest_vcpus, t3.sizes_per_host, t3.vcpus) == (8, 12, 96)
    embodied = hardware.family_embodied(FACTORS, "aws", "m5")
    assert embodied is not None
    assert embodied.kg == Decimal("1610.79")
    assert hardware.family_host(FACTORS, "aws", "m99") is None


def test_t1_micro_has_its_memory_in_mebibytes() -> None:
    assert found("aws", "t1.micro").memory_gib == Decimal(613) / 1024


def test_no_type_is_no_guess() -> None:
    assert hardware.instance(FACTORS, "aws", "zz9.plural") is None
    assert hardware.instance(FACTORS, "oci", "VM.Standard3") is None


def test_interpolation_passes_through_its_points_and_refuses_other_loads() -> None:
    watts = tuple(Decimal(w) for w in (10, 20, 60, 100))
    assert [hardware.interpolate(watts, load) for load in hardware.LOADS] == list(watts)
    assert hardware.interpolate(watts, Decimal("0.3")) == 40
    with pytest.raises(ValueError, match=r"outside 0\.\.1"):
        hardware.interpolate(watts, Decimal("1.01"))


def test_derived_figures_do_not_depend_on_the_callers_arithmetic() -> None:
    from decimal import localcontext

    hardware.cpu_power.cache_clear()
    with localcontext(prec=4):
        coarse = hardware.cpu_power(FACTORS, ("intel-skylake-server", "intel-broadwell", "intel-haswell"), "gcp")
    hardware.cpu_power.cache_clear()
    assert coarse == hardware.cpu_power(FACTORS, ("intel-skylake-server", "intel-broadwell", "intel-haswell"), "gcp")
