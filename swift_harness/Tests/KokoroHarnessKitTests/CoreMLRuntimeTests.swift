#if KOKORO_CORE_ML_STAND_IN
    import CoreML
    import CoreMLSupport
    import KokoroCoreML
    import SynthesisSupport
    import XCTest

    @testable import KokoroHarnessKit

    /// The commands that need Core ML, before its stand-in.
    final class CoreMLRuntimeTests: XCTestCase {
        private let scratch = TemporaryFolder()

        override func setUpWithError() throws {
            try FileManager.default.createDirectory(
                at: scratch.url, withIntermediateDirectories: true)
        }

        override func tearDown() {
            StandIn.reset()
            scratch.remove()
        }

        private func place(_ name: String) -> URL { scratch.url.appendingPathComponent(name) }

        /// Runs a command with what the system has.
        private func run(_ words: String...) async -> HarnessTests.Run {
            await HarnessTests.run(words, runtime: DeviceRuntimes.available)
        }

        private func json(_ name: String) throws -> JSONValue {
            try JSONValue(parsing: Data(contentsOf: place(name)))
        }

        private func loaded() -> [(package: String, units: MLComputeUnits)] {
            StandIn.events.compactMap { event in
                guard case .loaded(let package, _, let units, _) = event else { return nil }
                return (package, units)
            }
        }

        private func compiled() -> [String] {
            StandIn.events.compactMap { event in
                guard case .compiled(let package) = event else { return nil }
                return package
            }
        }

        /// Puts something else behind a function of the tiny network.
        private func replace(
            _ package: String, _ function: String, in bundle: BundleFolder,
            by run: @escaping @Sendable () throws -> [String: MLFeatureValue]
        ) throws {
            let place = try XCTUnwrap(
                bundle.manifest.place(package: "\(package).mlpackage", function: function))
            let good = StandInNetwork.model(place.function)
            StandIn.register(
                package,
                [
                    function: StandIn.Function(
                        description: good.standInDescription, run: { _ in try run() })
                ])
        }

        // MARK: say

        func testWhatIsSaidIsWrittenAsTheSynthesizerGaveIt() async throws {
            let bundle = try TinyBundle()
            let folder = try bundle.folder()
            StandInNetwork.register(folder)
            let (out, cache) = (place("a.wav"), place("cache").path)
            let words = [
                "say", bundle.url.path, "--phonemes", "ab, ba. ab ab ab ab. cccc", "--voice",
                "second*0.5+first*0.5", "--speed", "1.25", "--out", out.path, "--cache", cache,
            ]
            let said = await HarnessTests.run(words, runtime: DeviceRuntimes.available)
            XCTAssertEqual(said.code, 0, said.messages)
            XCTAssertEqual(said.messages, "")
            let expected = try await KokoroSynthesizer(bundle: folder, stages: TinyStages())
                .synthesize(
                    phonemes: "ab, ba. ab ab ab ab. cccc", voice: "second*0.5+first*0.5",
                    speed: 1.25)
            let file = try WaveFile(samples: expected.samples, sampleRate: expected.sampleRate)
            XCTAssertEqual(try Data(contentsOf: out), file.data)
            XCTAssert(said.results.contains("in \(expected.parts.count) parts"), said.results)
            XCTAssert(FileManager.default.fileExists(atPath: cache))
            let again = await HarnessTests.run(words, runtime: DeviceRuntimes.available)
            XCTAssertEqual(again.code, 11)
            let forced = await HarnessTests.run(
                words + ["--force"], runtime: DeviceRuntimes.available)
            XCTAssertEqual(forced.code, 0, forced.messages)
        }

        func testPackagesRunOnWhatIsChosenButForThoseThatAskForTheProcessor() async throws {
            let bundle = try TinyBundle()
            StandInNetwork.register(try bundle.folder())
            let said = await run(
                "say", bundle.url.path, "--phonemes", "a", "--out", place("a.wav").path, "--cache",
                place("cache").path, "--compute-units", "CPU_AND_GPU")
            XCTAssertEqual(said.code, 0, said.messages)
            XCTAssertEqual(loaded().count, PipelineStage.allCases.count)
            for load in loaded() {
                XCTAssertEqual(load.units, load.package == "Decoder" ? .cpuAndGPU : .cpuOnly)
            }
        }

        func testClippedSamplesAreTold() async throws {
            let bundle = try TinyBundle()
            let folder = try bundle.folder()
            StandInNetwork.register(folder)
            let loud: [Float] = [0.5, 1.5, -1.25] + .init(repeating: 0.25, count: 45)
            try replace("Tail", "frames_12", in: folder) {
                [
                    "audio": MLFeatureValue(
                        multiArray: try PaddedArray.make(
                            LittleEndian.bytes(loud), .float32, [1, 48]))
                ]
            }
            let out = place("a.wav")
            let said = await run(
                "say", bundle.url.path, "--phonemes", "a", "--out", out.path, "--cache",
                place("cache").path)
            XCTAssertEqual(said.code, 0, said.messages)
            XCTAssertEqual(
                said.messages, "2 of 12 samples lie above full scale (peak 1.50) and were clipped")
            let file = try WaveFile(samples: Array(loud.prefix(12)), sampleRate: 24_000)
            XCTAssertEqual(try Data(contentsOf: out), file.data)
        }

        // MARK: bench

        func testEveryChoiceIsMeasuredFromAnEmptyFolder() async throws {
            let bundle = try TinyBundle()
            StandInNetwork.register(try bundle.folder())
            let measured = await run(
                "bench", bundle.url.path, "--phonemes", "ab", "--phonemes", "ba.", "--repeat", "2",
                "--compute-units", "CPU_AND_GPU", "--compute-units", "bundle", "--json",
                place("bench.json").path)
            XCTAssertEqual(measured.code, 0, measured.messages)
            XCTAssertEqual(compiled().count, 2 * PipelineStage.allCases.count)
            let json = try json("bench.json")
            guard case .array(let devices) = json["devices"] else { return XCTFail("no devices") }
            XCTAssertEqual(devices.count, 2)
            for (device, units) in zip(devices, ["CPU_AND_GPU", "CPU_AND_NE"]) {
                XCTAssertEqual(device["verdict"], .string("measured"))
                guard case .array(let functions) = device["functions"],
                    case .array(let cases) = device["cases"]
                else { return XCTFail("no functions") }
                XCTAssertEqual(
                    functions.map { $0["package"] },
                    PipelineStage.allCases.map { .string("\($0.rawValue).mlpackage") })
                XCTAssertEqual(
                    functions.map { $0["compute_units"] },
                    PipelineStage.allCases.map {
                        .string($0 == .decoder ? units : "CPU_ONLY")
                    })
                XCTAssertEqual(cases.map { $0["case"] }, [.string("ab"), .string("ba.")])
                // durations 1, 1, 2 and 1, of 4 samples each
                XCTAssertEqual(cases[0]["audio_seconds"], .double(20.0 / 24_000))
                guard case .array(let runs) = functions[0]["run_seconds"]?["values"] else {
                    return XCTFail("no runs")
                }
                // two lines three times, and the first does not count
                XCTAssertEqual(runs.count, 5)
            }
        }

        func testAChoiceThatFailsIsToldAndTheOthersAreMeasured() async throws {
            let bundle = try TinyBundle()
            let folder = try bundle.folder()
            StandInNetwork.register(folder)
            try replace("Tail", "frames_12", in: folder) {
                throw NSError(domain: "com.apple.CoreML", code: 7)
            }
            let measured = await run(
                "bench", bundle.url.path, "--phonemes", "a", "--compute-units", "CPU_ONLY",
                "--json", place("bench.json").path)
            XCTAssertEqual(measured.code, 9)
            guard case .array(let devices) = try json("bench.json")["devices"],
                case .string(let reason) = devices[0]["reason"]
            else { return XCTFail("no reason") }
            XCTAssertEqual(devices[0]["verdict"], .string("failed"))
            XCTAssert(reason.contains("running Tail.mlpackage:frames_12"), reason)
        }

        // MARK: verify

        /// Recordings of a bundle and the result of comparing it with them.
        private func verified(
            _ bundle: TinyBundle, _ lines: [String] = ["ab", "ba. ab ab ab ab. cccc"],
            _ words: String...
        ) async throws -> HarnessTests.Run {
            try await TinyRecordings.write(
                of: bundle.folder(), saying: lines, to: place("recordings"))
            return await HarnessTests.run(
                [
                    "verify", bundle.url.path, "--goldens", place("recordings").path, "--json",
                    place("mac.json").path, "--cache", place("cache").path,
                ] + words, runtime: DeviceRuntimes.available)
        }

        func testStagesAndUtterancesAreComparedWithTheRecordings() async throws {
            let bundle = try TinyBundle()
            StandInNetwork.register(try bundle.folder())
            for package in PipelineStage.allCases.map(\.rawValue) {
                let functions = ["tokens_8", "tokens_16", "frames_12", "frames_24"]
                StandIn.plan(
                    package,
                    Dictionary(
                        uniqueKeysWithValues: functions.map { name in
                            let operation = StandIn.PlannedOperation(
                                "ios18.conv", output: "y", devices: [.gpu], weight: 1)
                            return (name, [operation])
                        }))
            }
            let run = try await verified(
                bundle, ["ab", "ba. ab ab ab ab. cccc"], "--compute-units", "CPU_AND_GPU",
                "--compute-units", "CPU_ONLY")
            XCTAssertEqual(run.code, 0, run.messages)
            let json = try json("mac.json")
            XCTAssertEqual(json["runtime"], .string("coreml"))
            guard case .array(let units) = json["units"] else { return XCTFail("no units") }
            XCTAssertEqual(
                units.map { $0["compute_units"] }, [.string("CPU_AND_GPU"), .string("CPU_ONLY")])
            for unit in units {
                guard case .array(let stages) = unit["stages"],
                    case .array(let cases) = unit["cases"],
                    case .array(let devices) = unit["devices"]
                else { return XCTFail("no stages") }
                XCTAssertGreaterThan(stages.count, 2 * PipelineStage.allCases.count)
                for stage in stages {
                    guard case .object(let ratios) = stage["snr_db"] else {
                        return XCTFail("no ratios")
                    }
                    XCTAssert(ratios.count > 0 && stage["error"] == .null)
                    for (name, ratio) in ratios.entries {
                        XCTAssertEqual(ratio, .double(999), name)
                    }
                }
                XCTAssertEqual(cases.map { $0["error"] }, [.null, .null])
                XCTAssertEqual(
                    cases.map { $0["metrics"]?["audio_snr_db"] }, [.double(999), .double(999)])
                XCTAssertEqual(Set(devices.map { "\($0["device"] ?? .null)" }).count, 1)
                XCTAssertEqual(devices.first?["device"], .string("GPU"))
            }
        }

        func testWhatIsNotAsRecordedIsMeasuredAndNotJudged() async throws {
            let bundle = try TinyBundle()
            let folder = try bundle.folder()
            StandInNetwork.register(folder)
            try replace("Tail", "frames_12", in: folder) {
                [
                    "audio": MLFeatureValue(
                        multiArray: try PaddedArray.make(
                            LittleEndian.bytes(.init(repeating: 0.25, count: 48)), .float32,
                            [1, 48]))
                ]
            }
            let run = try await verified(bundle, ["ab", "ba"], "--compute-units", "CPU_ONLY")
            XCTAssertEqual(run.code, 0, run.messages)
            // by stage and by the synthesizer, and not once more for the second recording
            XCTAssertEqual(loaded().count, 2 * PipelineStage.allCases.count)
            guard case .array(let units) = try json("mac.json")["units"],
                case .array(let stages) = units[0]["stages"],
                case .array(let cases) = units[0]["cases"],
                case .double(let stage) = stages.last?["snr_db"]?["audio"],
                case .double(let audio) = cases[0]["metrics"]?["audio_snr_db"]
            else { return XCTFail("no stages") }
            XCTAssertLessThan(stage, 20)
            XCTAssertLessThan(audio, 20)
            XCTAssertEqual(stages[0]["snr_db"]?["encoded"], .double(999))
        }

        func testAStageThatFailsIsToldInTheResult() async throws {
            let bundle = try TinyBundle()
            let folder = try bundle.folder()
            StandInNetwork.register(folder)
            try replace("Source", "frames_12", in: folder) {
                throw NSError(domain: "com.apple.CoreML", code: 7)
            }
            let run = try await verified(bundle, ["ab"], "--compute-units", "ALL")
            XCTAssertEqual(run.code, 10)
            guard case .array(let units) = try json("mac.json")["units"],
                case .array(let stages) = units[0]["stages"],
                case .array(let cases) = units[0]["cases"],
                case .string(let said) = cases[0]["error"]
            else { return XCTFail("no stages") }
            let failed = stages.filter { $0["error"] != .null }
            XCTAssertEqual(failed.map { $0["package"] }, [.string("Source.mlpackage")])
            XCTAssert(said.contains("running Source.mlpackage:frames_12"), said)
        }

        // MARK: plan

        private func planned(_ bundle: TinyBundle, _ words: String...) async -> HarnessTests.Run {
            await HarnessTests.run(
                [
                    "plan", bundle.url.path, "--out", place("plans").path, "--cache",
                    place("cache").path,
                ] + words, runtime: DeviceRuntimes.available)
        }

        func testThePlanOfAFunctionIsWritten() async throws {
            let bundle = try TinyBundle()
            StandInNetwork.register(try bundle.folder())
            StandIn.plan(
                "Decoder",
                [
                    "frames_24": [
                        StandIn.PlannedOperation("const", output: "w", devices: [], weight: nil),
                        StandIn.PlannedOperation(
                            "ios18.conv", output: "y", devices: [.neuralEngine, .cpu],
                            weight: 0.75),
                        StandIn.PlannedOperation(
                            "ios18.cast", output: "z", devices: [], weight: 0.25),
                    ]
                ])
            let run = await planned(
                bundle, "--stage", "Decoder", "--function", "frames_24", "--compute-units", "ALL")
            XCTAssertEqual(run.code, 0, run.messages)
            XCTAssertEqual(run.messages, "Core ML has here: CPU, GPU, NeuralEngine")
            XCTAssertEqual(
                run.results,
                "Decoder.frames_24.ALL.json: NeuralEngine 1 (75 %), unknown 1 (25 %)")
            XCTAssert(
                StandIn.events.contains(
                    .planned(package: "Decoder", function: "frames_24", units: .all)))
            let json = try json("plans/Decoder.frames_24.ALL.json")
            XCTAssertEqual(json["constants"], .count(1))
            XCTAssertEqual(
                json["available"], .array(["CPU", "GPU", "NeuralEngine"].map(JSONValue.string)))
            guard case .array(let operations) = json["operations"] else {
                return XCTFail("no operations")
            }
            XCTAssertEqual(operations.map { $0["position"] }, [.count(1), .count(2)])
            XCTAssertEqual(operations.map { $0["operator"] }, [.string("conv"), .string("cast")])
            XCTAssertEqual(operations[0]["opset"], .string("ios18"))
            XCTAssertEqual(operations.map { $0["device"] }, [.string("NeuralEngine"), .null])
            XCTAssertEqual(
                operations[0]["supported"], .array([.string("CPU"), .string("NeuralEngine")]))
            XCTAssertEqual(operations.map { $0["cost"] }, [.double(0.75), .double(0.25)])
        }

        func testThePackageOfOneFunctionIsPlannedWithoutAName() async throws {
            let bundle = try TinyBundle(complete: [Bucket(tokens: 8, frames: 8)])
            StandInNetwork.register(try bundle.folder())
            let operation = StandIn.PlannedOperation(
                "ios17.conv", output: "y", devices: [.cpu], weight: nil)
            StandIn.plan("Kokoro_8x8", ["main": [operation]])
            let run = await planned(bundle)
            XCTAssertEqual(run.code, 0, run.messages)
            XCTAssert(
                StandIn.events.contains(
                    .planned(package: "Kokoro_8x8", function: nil, units: .cpuOnly)))
        }

        func testAPlanThatCannotBeHadIsSaid() async throws {
            let bundle = try TinyBundle()
            StandInNetwork.register(try bundle.folder())
            let words = ["--stage", "Tail", "--function", "frames_12"]
            let none = StandIn.PlannedOperation("conv", output: "y", devices: [], weight: 1)
            for (plan, said) in [
                (nil, "failed at planning Tail.mlpackage:frames_12 on CPU_ONLY"),
                (["frames_24": []], "has no function 'frames_12'"),
                (["frames_12": [none]], "names no device for any of the 1 operations"),
            ] as [([String: [StandIn.PlannedOperation]]?, String)] {
                if let plan { StandIn.plan("Tail", plan) }
                let run = await planned(bundle, words[0], words[1], words[2], words[3])
                XCTAssertEqual(run.code, 9)
                XCTAssert(run.messages.contains(said), run.messages)
            }
        }
    }
#endif
