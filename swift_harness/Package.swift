// swift-tools-version: 5.9
import PackageDescription

let strict: [SwiftSetting] = [.enableExperimentalFeature("StrictConcurrency")]

let package = Package(
    name: "KokoroHarness",
    platforms: [.iOS(.v17), .macOS(.v14)],
    products: [
        .library(name: "KokoroBundle", targets: ["KokoroBundle"]),
        .library(name: "KokoroSignal", targets: ["KokoroSignal"]),
        .library(name: "KokoroSynthesis", targets: ["KokoroSynthesis"]),
    ],
    targets: [
        .target(name: "KokoroBundle", swiftSettings: strict),
        .target(name: "KokoroSignal", dependencies: ["KokoroBundle"], swiftSettings: strict),
        .target(
            name: "KokoroSynthesis", dependencies: ["KokoroBundle", "KokoroSignal"],
            swiftSettings: strict),
        .target(
            name: "GoldenSupport", dependencies: ["KokoroBundle"], path: "Tests/GoldenSupport",
            swiftSettings: strict),
        .testTarget(
            name: "KokoroBundleTests", dependencies: ["KokoroBundle", "GoldenSupport"],
            swiftSettings: strict),
        .testTarget(
            name: "KokoroSynthesisTests",
            dependencies: ["KokoroSynthesis", "GoldenSupport"], swiftSettings: strict),
        .testTarget(
            name: "KokoroSignalTests", dependencies: ["KokoroSignal", "GoldenSupport"],
            swiftSettings: strict),
    ]
)
