// swift-tools-version: 5.9
import PackageDescription

var strict: [SwiftSetting] = [.enableExperimentalFeature("StrictConcurrency")]
var coreML: [Target.Dependency] = []
var standIn: [Target] = []

// Linux has no Core ML. `linux/run` puts a stand-in of ours in its place, so that what calls Core
// ML is compiled and tested; no other build sees it, and none on a system of Apple's can.
#if os(Linux)
    if Context.environment["KOKORO_CORE_ML_STAND_IN"] == "1" {
        strict.append(.define("KOKORO_CORE_ML_STAND_IN"))
        coreML = ["CoreML"]
        standIn = [.target(name: "CoreML", path: "linux/CoreML", swiftSettings: strict)]
    }
#endif

let targets: [Target] = [
    .target(name: "KokoroBundle", swiftSettings: strict),
    .target(name: "KokoroSignal", dependencies: ["KokoroBundle"], swiftSettings: strict),
    .target(
        name: "KokoroSynthesis", dependencies: ["KokoroBundle", "KokoroSignal"],
        swiftSettings: strict),
    .target(
        name: "KokoroCoreML", dependencies: coreMLBehind(["KokoroSynthesis"]),
        swiftSettings: strict),
    .target(name: "KokoroSayModel", dependencies: ["KokoroSynthesis"], swiftSettings: strict),
    .target(
        name: "KokoroGoldens", dependencies: ["KokoroBundle", "KokoroSignal"],
        swiftSettings: strict),
    .target(name: "KokoroRecordings", dependencies: ["KokoroSynthesis"], swiftSettings: strict),
    .target(
        name: "KokoroHarnessKit",
        dependencies: coreMLBehind(["KokoroCoreML", "KokoroGoldens", "KokoroRecordings"]),
        swiftSettings: strict),
    .executableTarget(
        name: "kokoro-harness", dependencies: ["KokoroHarnessKit"], swiftSettings: strict),
]

let tests: [Target] = [
    .target(
        name: "GoldenSupport", dependencies: ["KokoroGoldens"], path: "Tests/GoldenSupport",
        swiftSettings: strict),
    .target(
        name: "SynthesisSupport", dependencies: ["KokoroRecordings"],
        path: "Tests/SynthesisSupport", swiftSettings: strict),
    .target(
        name: "CoreMLSupport", dependencies: coreMLBehind(["KokoroCoreML", "SynthesisSupport"]),
        path: "Tests/CoreMLSupport", swiftSettings: strict),
    .testTarget(
        name: "KokoroBundleTests", dependencies: ["KokoroBundle"], swiftSettings: strict),
    .testTarget(
        name: "KokoroSignalTests", dependencies: ["KokoroSignal"], swiftSettings: strict),
    .testTarget(
        name: "KokoroGoldensTests", dependencies: ["KokoroGoldens", "GoldenSupport"],
        swiftSettings: strict),
    .testTarget(
        name: "KokoroSynthesisTests", dependencies: ["KokoroSynthesis", "SynthesisSupport"],
        swiftSettings: strict),
    .testTarget(
        name: "KokoroCoreMLTests",
        dependencies: coreMLBehind(["KokoroCoreML", "CoreMLSupport", "SynthesisSupport"]),
        swiftSettings: strict),
    .testTarget(
        name: "KokoroSayModelTests",
        dependencies: ["KokoroSayModel", "SynthesisSupport", "GoldenSupport"],
        swiftSettings: strict),
    .testTarget(
        name: "KokoroHarnessKitTests",
        dependencies: coreMLBehind([
            "KokoroHarnessKit", "CoreMLSupport", "GoldenSupport", "SynthesisSupport",
        ]),
        swiftSettings: strict),
]

let package = Package(
    name: "KokoroHarness",
    platforms: [.iOS(.v17), .macOS(.v14)],
    products: [
        .library(name: "KokoroBundle", targets: ["KokoroBundle"]),
        .library(name: "KokoroSignal", targets: ["KokoroSignal"]),
        .library(name: "KokoroSynthesis", targets: ["KokoroSynthesis"]),
        .library(name: "KokoroCoreML", targets: ["KokoroCoreML"]),
        .library(name: "KokoroSayModel", targets: ["KokoroSayModel"]),
        .executable(name: "kokoro-harness", targets: ["kokoro-harness"]),
    ],
    targets: targets + tests + standIn
)

/// Dependencies of a target that calls Core ML.
func coreMLBehind(_ names: [Target.Dependency]) -> [Target.Dependency] { names + coreML }
